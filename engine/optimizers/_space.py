"""Where numeric optimizers search: an interval for each number, a list for each choice."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ConfigError, ParamError
from engine.optimizers.base import Evaluation, State, values_key
from engine.params import Param

REACH = 10.0
"""How many scales an open side of an interval reaches at least; a scale is max(1, |starting value|)."""

LOG_RATIO = 1000.0
"""Bounds above 0 whose ratio is at least this are searched on a log scale, unless it is said which ones are."""

WIDEST = 2.0**53
"""Wider intervals are searched as if they were open: floats and samplers lose whole numbers there."""

ENUMERATED = 10_000
"""Spaces of at most so many values are listed where a sampler only repeats itself."""

Bend = Literal["linear", "log", "open"]


@dataclass(frozen=True)
class Axis:
    """The coordinate of one number: u in [0, 1], between the ends `low` and `high`.

    linear: the value itself; log: its logarithm; open: asinh((value - start) / scale), which is linear within a
    scale of the start and logarithmic beyond. `low` and `high` are in these coordinates. Of whole numbers each
    has an interval of 1 around it, so that the ends are not rarer than the others.
    """

    param: Param
    bend: Bend
    low: float
    high: float
    start: float = 0.0
    scale: float = 1.0

    @property
    def is_whole(self) -> bool:
        return self.param.kind == "integer"

    def unit(self, value: float) -> float:
        """The value's coordinate."""
        u = (self.bent(value) - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return min(1.0, max(0.0, u))

    def value(self, unit: float) -> float | int:
        """The value at a coordinate, within the bounds."""
        return self.straight(self.low + unit * (self.high - self.low))

    def bent(self, value: float) -> float:
        """A value between `low` and `high`."""
        if self.bend == "open":
            return math.asinh((value - self.start) / self.scale)
        return math.log(value) if self.bend == "log" else float(value)

    def straight(self, bent: float) -> float | int:
        """The value of which `bent` is what it says; clipped at the bounds, which rounding may pass."""
        value = bent
        if self.bend == "open":
            value = self.start + self.scale * math.sinh(bent)
        elif self.bend == "log":
            value = math.exp(bent)
        low = -math.inf if self.param.ge is None else self.param.ge
        if self.is_whole and self.bend == "log":
            low = max(low, 1)
        high = math.inf if self.param.le is None else self.param.le
        if self.is_whole:
            return int(min(math.floor(high) if high < math.inf else high, max(_ceil(low), round(value))))
        return min(high, max(low, value))


@dataclass(frozen=True)
class Category:
    """A parameter with few values: a choice or a flag."""

    param: Param
    values: tuple[Any, ...]

    def place(self, value: Any) -> int:
        """The number of a value; a resumed run has it as JSON gave it back, a tuple as a list."""
        key = values_key({"": value})
        return next(i for i, one in enumerate(self.values) if values_key({"": one}) == key)


@dataclass(frozen=True)
class Space:
    """What is searched; the other parameters keep their current values."""

    axes: tuple[Axis, ...]
    categories: tuple[Category, ...]

    @classmethod
    def of(cls, state: State, log: Sequence[str] | None = None) -> Space:
        """The space of the state's numbers, integers, choices and flags; of other kinds nothing is in it.

        log: which numbers are searched on a log scale; None: those with bounds 0 < ge and ge * 1000 <= le.
        An open side reaches 10 scales (max(1, |starting value|)) from the start, further where values of the history
        lie further, and to twice the distance of the best one: the search can go anywhere. Raises ConfigError
        where `log` names no number, or one that may be 0 or less.
        """
        numbers = [p for p in state.params if p.kind in ("number", "integer")]
        _check_log(log, numbers, state.initial)
        axes = [_axis(p, state, (log is None and _spans(p)) or p.name in (log or ())) for p in numbers]
        flags = [Category(p, (False, True)) for p in state.params if p.kind == "flag"]
        choices = [Category(p, p.choices) for p in state.params if p.kind == "choice"]
        return cls(tuple(axes), (*choices, *flags))

    @property
    def size(self) -> float:
        """How many values there are altogether; infinite where a number is not whole or an interval is open."""
        sizes: list[float] = [len(category.values) for category in self.categories]
        for axis in self.axes:
            is_finite = axis.is_whole and axis.param.ge is not None and axis.param.le is not None
            is_one = axis.param.ge is not None and axis.param.ge == axis.param.le
            span = _whole_count(axis.param) if is_finite else 1.0 if is_one else math.inf
            sizes.append(span)
        return math.prod(sizes)


def fresh(state: State, space: Space, drawn: Iterator[dict[str, Any]], n: int, tries: int) -> Iterator[dict[str, Any]]:
    """Up to n of those drawn that the parameters take and that were not tried before."""
    seen = {values_key(e.candidate.values) for e in state.history}
    listed: list[dict[str, Any]] | None = None
    for _ in range(n):
        values = next((v for v in itertools.islice(drawn, tries) if _is_fresh(state, v, seen)), None)
        if values is None and space.size <= ENUMERATED:
            listed = _shuffled(space, state.rng) if listed is None else listed
            values = next((v for v in listed if _is_fresh(state, v, seen)), None)
        if values is None:
            return
        seen.add(_key(state, values))
        yield values


def _is_fresh(state: State, values: Mapping[str, Any], seen: set[str]) -> bool:
    if _key(state, values) in seen:
        return False
    by_name = {param.name: param for param in state.params}
    try:
        for name, value in values.items():
            by_name[name].check(value)
    except ParamError:
        return False
    return True


def _key(state: State, values: Mapping[str, Any]) -> str:
    return values_key({**state.current, **values})


def _shuffled(space: Space, rng: random.Random) -> list[dict[str, Any]]:
    """All values of a small space in random order."""
    columns: dict[str, Sequence[Any]] = {
        axis.param.name: range(int(axis.value(0.0)), int(axis.value(1.0)) + 1) if axis.is_whole else [axis.value(0.0)]
        for axis in space.axes
    }
    columns |= {c.param.name: c.values for c in space.categories}
    rows = [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]
    return rng.sample(rows, len(rows))


def _axis(param: Param, state: State, is_log: bool) -> Axis:
    start = float(state.initial[param.name])
    if is_log:
        return _log_axis(param, start)
    if param.ge is not None and param.le is not None and param.le - param.ge <= WIDEST:
        low, high = float(param.ge), float(param.le)
        if param.kind == "integer":
            low, high = _ceil(low) - 0.5, math.floor(high) + 0.5
        return Axis(param, "linear", low, high)
    scale = max(1.0, abs(start))
    seen = [abs(float(e.candidate.values[param.name]) - start) for e in state.history]
    far = max([REACH * scale, *seen, 2 * _distance_of_best(state.history, param.name, start)])
    far = min(far, 1e300)
    low = start - far if param.ge is None else max(param.ge, start - far)
    high = start + far if param.le is None else min(param.le, start + far)
    axis = Axis(param, "open", 0.0, 0.0, start, scale)
    return Axis(param, "open", axis.bent(low), axis.bent(high), start, scale)


def _log_axis(param: Param, start: float) -> Axis:
    low = param.ge if param.ge is not None and param.ge > 0 else start / LOG_RATIO
    high = param.le if param.le is not None else max(start, low) * LOG_RATIO
    if param.kind == "integer":
        low, high = max(_ceil(low), 1) - 0.5, math.floor(high) + 0.5
    return Axis(param, "log", math.log(low), math.log(high))


def _distance_of_best(history: Sequence[Evaluation], name: str, start: float) -> float:
    best = max(history, key=lambda e: e.rank, default=None)
    return 0.0 if best is None else abs(float(best.candidate.values[name]) - start)


def _spans(param: Param) -> bool:
    return param.ge is not None and param.le is not None and param.ge > 0 and param.le >= LOG_RATIO * param.ge


def _check_log(log: Sequence[str] | None, numbers: Sequence[Param], initial: Mapping[str, Any]) -> None:
    by_name = {p.name: p for p in numbers}
    for name in log or ():
        if name not in by_name:
            raise ConfigError(f"log names '{name}', which is no number", allowed=", ".join(by_name) or "no name")
        param = by_name[name]
        if (param.ge is None or param.ge <= 0) and initial[name] <= 0:
            raise ConfigError(
                f"'{name}' starts at {initial[name]} and may not be searched on a log scale",
                allowed="numbers with ge above 0, or that start above 0",
            )


def _whole_count(param: Param) -> float:
    return math.floor(param.le or 0) - _ceil(param.ge or 0) + 1.0


def _ceil(bound: float) -> float:
    return bound if math.isinf(bound) else math.ceil(bound)
