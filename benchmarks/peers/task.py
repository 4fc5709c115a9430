"""What a task of the comparison offers: to the optimizers, and to the simulated proposer.

Nothing here imports the engine, so that an interpreter with a peer and without the engine can run it.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Values = Mapping[str, Any]
"""Values by parameter name."""

Found = tuple[int, int, Values]
"""From where to where in a text the values of a candidate stand, and which they are; some may be absent."""

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What makes a function a traced one; `plain` where nothing is traced."""


@dataclass(frozen=True)
class Spec:
    """One parameter: its start and its limits. `kind`: text, number, choice or code."""

    name: str
    kind: str
    value: Any
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself: the `wrap` of a program that is not traced."""
    return function


class Task(ABC):
    """A program with parameters, examples to search on (`train`) and examples held out.

    The second half of the methods is what the simulated proposer understands of the domain.
    """

    name: str
    objective: str
    specs: Sequence[Spec]
    train: Sequence[Any]
    held_out: Sequence[Any]
    best = 1.0

    @property
    def start(self) -> dict[str, Any]:
        return {spec.name: spec.value for spec in self.specs}

    @abstractmethod
    def program(self, wrap: Wrap) -> Callable[[Values, Any], Any]:
        """output = program(values, example), of functions made with `wrap`; values may be traced ones."""

    @abstractmethod
    def judge(self, example: Any, output: Any) -> tuple[float, str]:
        """Score, and what is told about it (may be empty)."""

    def run(self, values: Values, example: Any) -> tuple[float, str]:
        """The judgement of plain values on one example; an error scores 0 and is told."""
        try:
            return self.judge(example, self.program(plain)(values, example))
        except Exception as error:
            return 0.0, f"{type(error).__name__}: {error}"

    def true_score(self, values: Values) -> float:
        """What the values are worth: the mean over the held-out examples."""
        return fmean(self.run(values, example)[0] for example in self.held_out)

    def to_text(self, values: Values) -> str:
        """The values as one text, for optimizers that know texts alone."""
        return str(values[self.specs[0].name])

    def from_text(self, text: str) -> Values:
        """The values of a text. Raises ValueError where it has none."""
        return {self.specs[0].name: text}

    @abstractmethod
    def found(self, text: str) -> list[Found]:
        """All candidates that stand in a text, in order."""

    @abstractmethod
    def improved(self, values: Values, text: str, skill: float, rng: random.Random) -> Values | None:
        """The values after what the text says is wrong with them was understood, each thing with probability `skill`.

        None where nothing was told, or understood.
        """

    @abstractmethod
    def varied(self, values: Values, rng: random.Random) -> Values:
        """The values after one random edit."""

    @abstractmethod
    def crossed(self, one: Values, other: Values, rng: random.Random) -> Values:
        """A mixture of two candidates."""
