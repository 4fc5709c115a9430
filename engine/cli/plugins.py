"""What other packages add to the command line, by entry point: commands and kinds of config file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from importlib.metadata import EntryPoint

__all__ = ["COMMANDS", "CONFIGS", "plugged_in"]

COMMANDS = "engine.commands"
CONFIGS = "engine.configs"
# A checkout that is not installed has no entry points; these are the ones that its pyproject.toml declares.
IN_CHECKOUT = {COMMANDS: {"rl": "rl.cli:app"}, CONFIGS: {"rl": "rl.schema", "optimize": "engine.schema"}}


def plugged_in(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, sorted; nothing is imported before their `load()`."""
    points = {
        name: EntryPoint(name, target, group)
        for name, target in IN_CHECKOUT[group].items()
        if _exists(target.partition(":")[0])
    }
    points |= {point.name: point for point in importlib.metadata.entry_points(group=group)}
    return dict(sorted(points.items()))


def _exists(module: str) -> bool:
    package = module.partition(".")[0]
    return importlib.util.find_spec(package) is not None and importlib.util.find_spec(module) is not None
