"""The kinds of config file, and which of them a file is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.cli.plugins import CONFIGS, plugged_in
from engine.config import Source
from engine.errors import ConfigError, UnknownName

__all__ = ["Kind", "kind_of", "kinds", "load_kind"]


class Kind(Protocol):
    """What the object or module behind an entry point of the group engine.configs offers."""

    def keys(self) -> frozenset[str]:
        """The top-level keys that such a file may have."""

    def check(self, path: Path, overrides: Sequence[str]) -> str:
        """One line that says what the file describes. Raises EngineError where it cannot be used."""

    def schema(self) -> dict[str, Any]:
        """The JSON schema of such a file."""


def kinds() -> list[str]:
    """The names of all kinds, sorted."""
    return list(plugged_in(CONFIGS))


def load_kind(name: str) -> Kind:
    """The kind of that name. Raises UnknownName."""
    points = plugged_in(CONFIGS)
    if name not in points:
        raise UnknownName("kind of config", name, points)
    kind: Kind = points[name].load()
    return kind


def kind_of(source: Source) -> str:
    """The kind whose keys the file's top level shares most. Raises ConfigError where it shares none."""
    shared = {name: len(load_kind(name).keys() & source.data.keys()) for name in kinds()}
    best = max(shared, key=lambda name: shared[name], default=None)
    if best is None or not shared[best]:
        keys = "; ".join(f"{name}: {', '.join(sorted(load_kind(name).keys()))}" for name in kinds())
        raise ConfigError("the file has no key of any kind of config", place=source.name, allowed=keys)
    return best
