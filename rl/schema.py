"""Training configs as `engine validate` and `engine schema` see them; loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.config import Config
from engine.registry import Registry
from rl.config import PLUGIN_SECTIONS, RunConfig, load


def keys() -> frozenset[str]:
    """The top-level keys of a training config."""
    return frozenset(RunConfig.model_fields)


def check(path: Path, overrides: Sequence[str]) -> str:
    """One line that says what the config trains. Raises ConfigError and UnknownName."""
    experiment = load(path, overrides)
    config = experiment.config
    if experiment.method_class.trainer == "diffusion":
        return (
            f"{experiment.method.kind} on {experiment.source.kind}: {config.model.name}, {config.trainer.steps} steps "
            f"of {config.trainer.prompts} rows"
        )
    if experiment.method_class.trainer == "offline":
        return (
            f"{experiment.method.kind} on {experiment.source.kind}: {config.model.name}, {config.trainer.steps} steps "
            f"of {config.trainer.prompts} rows of each set"
        )
    if getattr(experiment.method, "objective", "reward") == "loss":
        return (
            f"{experiment.method.kind} on {experiment.source.kind}: {config.model.name}, {config.trainer.steps} steps "
            f"of the loss on {config.trainer.prompts} answers"
        )
    return (
        f"{experiment.method.kind} on {experiment.source.kind}: {config.model.name}, {config.trainer.steps} steps "
        f"of {config.trainer.prompts} prompts x {config.policy.completions} completions"
    )


def schema() -> dict[str, Any]:
    """The JSON schema of a training config, with the section of every method and source that is installed."""
    whole = RunConfig.model_json_schema()
    definitions = whole.setdefault("$defs", {})
    for section, registry in PLUGIN_SECTIONS.items():
        choices = []
        for name, config in _configs(registry):
            part = config.model_json_schema(ref_template=f"#/$defs/{section}.{name}/$defs/{{model}}")
            definitions[f"{section}.{name}"] = {**part, "required": sorted({*part.get("required", []), "kind"})}
            choices.append({"$ref": f"#/$defs/{section}.{name}"})
        whole["properties"][section] = {"oneOf": choices}
    return whole


def _configs(registry: Registry) -> Iterator[tuple[str, type[Config]]]:
    """Every plug-in's section, and those of its modes as NAME.MODE."""
    for name in registry.names():
        found = registry.load(name)
        yield name, found.Config
        for mode, other in getattr(found, "modes", {}).items():
            yield f"{name}.{mode}", other.Config
