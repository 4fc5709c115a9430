"""Reward functions by name, by file and by dotted path, with their weight and options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import gallery
from engine.errors import ConfigError, UnknownName, did_you_mean
from engine.registry import Registry

REWARDS = Registry("reward", package="rl.rewards", group="engine.rewards", attribute="REWARD")

GIVEN = ("prompts", "completions", "completion_ids")
"""What every reward function is given besides the columns."""


@dataclass(frozen=True, eq=False)
class Reward:
    """A reward function as configured.

    `options` are passed to it by name; `workers`: how many of its calls may run at once (1: one
    after another, in the calling thread; coroutine functions always run at once).
    """

    name: str
    function: Callable[..., Any]
    weight: float = 1.0
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """The function's parameters."""
        return list(inspect.signature(self.function).parameters.values())

    @property
    def needed(self) -> list[str]:
        """The columns without which it cannot be called."""
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        known = {*GIVEN, *self.options}
        parameters = [p for p in self.parameters if p.default is p.empty and p.kind not in variable]
        return [p.name for p in parameters if p.name not in known]

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the given arguments that it takes, and its options."""
        if any(p.kind is p.VAR_KEYWORD for p in self.parameters):
            return {**given, **self.options}
        names = {p.name for p in self.parameters}
        return {**{k: v for k, v in given.items() if k in names}, **self.options}

    @property
    def extract(self) -> Callable[..., str | None] | None:
        """Its `extract(completion, **row)`, if it has one."""
        return getattr(self.function, "extract", None)


def names() -> list[str]:
    """The names of the rewards that this installation has."""
    return REWARDS.names()


def load_reward(
    spec: str | Mapping[str, Any] | Callable[..., Any], near: Path | None = None, *, place: str | None = None
) -> Reward:
    """The reward that a config means.

    spec: a name ("first_line_equals"), "path/to/file.py:function" (beside `near`, then in the working
    folder), a dotted path ("package.module.function"), a mapping {name: any of these, weight: 1.0,
    workers: 1, and the function's options}, or the function itself.
    Raises UnknownName, or ConfigError for an option that the function does not have.
    """
    if isinstance(spec, Reward):
        return spec
    if isinstance(spec, str | Mapping):
        settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    else:
        settings = {"name": getattr(spec, "__name__", type(spec).__name__), "function": spec}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"a reward without a name: {spec!r:.80}", place=place, allowed="{name: ..., weight: 1.0}")
    function = settings.pop("function", None) or _find(name, near, place)
    if not callable(function):
        raise ConfigError(f"the reward '{name}' is a {type(function).__name__}", place=place, allowed="a function")
    reward = Reward(
        name=name.rpartition(":")[2] or name,
        function=function,
        weight=_number(settings.pop("weight", 1.0), "weight", name, place),
        workers=int(_number(settings.pop("workers", 1), "workers", name, place)),
        options=settings,
    )
    _check_options(reward, place)
    return reward


def load_rewards(specs: Sequence[Any], near: Path | None = None) -> list[Reward]:
    """The rewards of a config's list; no two of one name. Raises ConfigError, UnknownName."""
    rewards = [load_reward(spec, near, place=f"rewards.{i}") for i, spec in enumerate(specs)]
    seen = [reward.name for reward in rewards]
    if twice := {name for name in seen if seen.count(name) > 1}:
        raise ConfigError(f"the reward '{min(twice)}' is named twice", place="rewards", next_step="keep one of the two")
    return rewards


def _find(name: str, near: Path | None, place: str | None) -> Any:
    """The function of a name, a file reference or a dotted path."""
    if ":" in name:
        return gallery.load(name, near=near)
    module_name, dot, attribute = name.rpartition(".")
    if not dot:
        return REWARDS.load(name, place=place)
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName("reward", name, [*names(), "path/to/file.py:function"], place=place) from error


def _number(value: Any, key: str, name: str, place: str | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or (key == "workers" and value < 1):
        raise ConfigError(
            f"{key} of the reward '{name}' is {value!r}",
            place=place,
            allowed="a number of at least 1" if key == "workers" else "a number",
        )
    return value


def _check_options(reward: Reward, place: str | None) -> None:
    """Raise ConfigError for an option that is not among the function's parameters."""
    known = {p.name for p in reward.parameters if p.default is not p.empty} | set(reward.needed)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in reward.parameters) and not known
    for option in reward.options:
        if option not in {p.name for p in reward.parameters} and not takes_any:
            raise ConfigError(
                f"the reward '{reward.name}' has no option '{option}'.{did_you_mean(option, known)}",
                place=place,
                allowed=", ".join(sorted({*known, "weight", "workers"})),
            )
