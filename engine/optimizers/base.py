"""What every optimizer offers, and what the loop gives it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engine.feedback import Feedback
from engine.llm.base import LLM
from engine.params import Param

if TYPE_CHECKING:
    from engine.graph.subgraph import Subgraph

Need = Literal["score", "text", "graph", "hidden_states", "ranking"]


@dataclass(frozen=True)
class Candidate:
    """Values for some or all parameters, by name; what is left out keeps its current value."""

    values: Mapping[str, Any]
    reason: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A candidate's judgement on some examples; the three tuples go by example.

    `outputs` are short texts of what the program gave, for a reader.
    """

    candidate: Candidate
    examples: tuple[int, ...]
    feedback: tuple[Feedback, ...]
    outputs: tuple[str, ...] = ()
    accepted: bool = False

    @property
    def score(self) -> float | None:
        """Mean scalar score; None if no example has one."""
        scores = [f.scalar for f in self.feedback if f.scalar is not None]
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True)
class Trajectory:
    """One example run with the current values: what went in, came out, was said, and the graph."""

    example: str
    output: str
    feedback: Feedback
    subgraph: Subgraph | None = None


@dataclass
class State:
    """What an optimizer sees when it proposes.

    `current`: all parameters' present values; `trajectories`: the current values' run on this
    step's batch; `history`: all evaluations so far, oldest first. `llm` is counted and budgeted by the
    loop; it is None for optimizers that do not name one. `rng` is the run's own.
    """

    params: Sequence[Param]
    current: Mapping[str, Any]
    trajectories: Sequence[Trajectory]
    history: Sequence[Evaluation]
    llm: LLM | None
    rng: random.Random
    step: int = 0
    objective: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


class Optimizer(ABC):
    """One strategy of proposing values. The loop evaluates, accepts, counts, records and resumes."""

    needs: ClassVar[frozenset[Need]] = frozenset({"score"})

    @abstractmethod
    def propose(self, state: State, n: int) -> list[Candidate]:
        """Up to n candidates. Invalid and duplicate ones are dropped, and counted, by the loop."""

    def observe(self, evaluations: Sequence[Evaluation]) -> None:  # noqa: B027 - a hook, empty by default
        """Learn from the evaluations of the last proposals."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed optimizer must know beyond the history; plain JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - a hook, empty by default
        """Take up a state_dict."""
