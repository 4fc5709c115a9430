"""Optimizers: strategies of proposing parameter values, one file each, found by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InputError
from engine.optimizers.base import Candidate, Evaluation, Optimizer, State, Trajectory
from engine.registry import Registry

REGISTRY = Registry("optimizer", package="engine.optimizers", group="engine.optimizers", attribute="OPTIMIZER")

__all__ = ["REGISTRY", "Candidate", "Evaluation", "Optimizer", "State", "Trajectory", "make", "names"]


def names() -> list[str]:
    """The optimizers that can be named, sorted; `auto` is a choice among them and not listed."""
    return REGISTRY.names()


def make(spec: str | Mapping[str, Any] | Optimizer, *, place: str | None = None) -> Optimizer:
    """The optimizer of a name, of {"kind": name, option: value}, or itself.

    Raises UnknownName (with the nearest name), ConfigError (a bad option), InputError.
    """
    if isinstance(spec, Optimizer):
        return spec
    if isinstance(spec, str):
        spec = {"kind": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        raise InputError(
            f"optimizer is {spec!r:.80}",
            place=place,
            allowed="auto, " + ", ".join(names()) + ", a mapping with its `kind`, or an Optimizer",
        )
    options = {key: value for key, value in spec.items() if key != "kind"}
    optimizer = REGISTRY.load(spec["kind"], place=place)(**options)
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"{spec['kind']} made a {type(optimizer).__name__}", place=place, allowed="an Optimizer")
    return optimizer
