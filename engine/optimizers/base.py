"""What every optimizer offers, and what the loop gives it."""

from __future__ import annotations

import hashlib
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.config import Config, Source, validate
from engine.feedback import Feedback
from engine.jsonfiles import json_text
from engine.llm.base import LLM
from engine.media import Media
from engine.metering import DEFAULT_MAX_TOKENS
from engine.params import Param

if TYPE_CHECKING:
    from engine.graph.subgraph import Subgraph

Need = Literal["score", "text", "graph", "hidden_states", "ranking"]


@dataclass(frozen=True)
class Candidate:
    """Values for some or all parameters, by name; what is left out keeps its current value.

    `fault`: why a model's answer gives no values; such a candidate only counts as invalid.
    """

    values: Mapping[str, Any]
    reason: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A candidate's judgement on some examples; the three tuples go by example.

    `outputs` are texts of what the program gave, for a reader. A run that `failed` has feedback
    without a score whose text is the error. `step` is 0 for the values that the search began with.
    """

    candidate: Candidate
    examples: tuple[int, ...]
    feedback: tuple[Feedback, ...]
    outputs: tuple[str, ...] = ()
    accepted: bool = False
    step: int = 0
    failed: tuple[bool, ...] = ()

    @cached_property
    def scores(self) -> tuple[float | None, ...]:
        """The scalar score of each example; None where the run failed or was not scored."""
        return tuple(f.scalar for f in self.feedback)

    @cached_property
    def score(self) -> float | None:
        """Mean scalar score; None if no example has one."""
        scores = [s for s in self.scores if s is not None]
        return math.fsum(scores) / len(scores) if scores else None

    @cached_property
    def rank(self) -> tuple[float, float]:
        """Sorts evaluations from worst to best: the share of scored examples, then the mean score."""
        scored = sum(s is not None for s in self.scores) / max(1, len(self.scores))
        return scored, -math.inf if self.score is None else self.score


@dataclass(frozen=True)
class Trajectory:
    """One example run with the current values: what went in, came out, was said, and the graph.

    `media`: the pictures and sounds in the example.
    """

    example: str
    output: str
    feedback: Feedback
    subgraph: Subgraph | None = None
    media: tuple[Media, ...] = ()


@dataclass
class State:
    """What an optimizer sees when it proposes; proposing changes nothing of it but `rng`.

    `params`: those it may change (never weights); `current`: the values that this step works from,
    those held by the loop unless the optimizer's `parent` names others; `initial`: the values that
    the search began with; `trajectories`: runs of the current values on some of this step's examples,
    the worst first; `examples`: all of this step's examples as text; `history`: all evaluations so
    far, oldest first, the starting values' first of all; `llm`: counted and budgeted by the loop, None
    for optimizers that need none; `rng`: seeded by run and step; `objective`: what the program is for,
    its docstring; `is_ranked`: a ranker judges, and the scores in `history` are win rates among those compared
    in one step for an optimizer that needs "ranking", for the others the probability to beat the starting values, by
    Bradley-Terry strengths from all rankings; `notes["refused"]`: why proposals of the last step were not run.
    """

    params: Sequence[Param]
    current: Mapping[str, Any]
    trajectories: Sequence[Trajectory]
    history: Sequence[Evaluation]
    llm: LLM | None
    rng: random.Random
    step: int = 0
    objective: str = ""
    initial: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[str] = ()
    is_ranked: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class Options(Config):
    """Options that every optimizer has."""

    candidates: int = Field(default=8, ge=1, description="candidates asked for in a step")


class Optimizer(ABC):
    """One strategy of proposing values. The loop evaluates, accepts, counts, records and resumes.

    `needs`: what it reads; `needs_llm`: whether it proposes with a language model whatever the parameters are
    (see `asks_llm`); `shown`: how many trajectories it is given in a step. Options are given as keywords
    and checked by `Config`; a bad one raises ConfigError.
    """

    needs: frozenset[Need] = frozenset({"score"})
    needs_llm: bool = True
    shown: int = 3
    Config: ClassVar[type[Options]] = Options

    def __init__(self, **options: Any) -> None:
        self.config: Any = validate(self.Config, Source(f"options of {type(self).__name__}", dict(options)))

    @property
    def name(self) -> str:
        """The name that it is found by: that of its file; of a class that lives elsewhere its own."""
        package, _, file = type(self).__module__.rpartition(".")
        return file if package == "engine.optimizers" else type(self).__name__

    def options(self) -> dict[str, Any]:
        """The options, for a record."""
        return dict(self.config.model_dump(mode="json"))

    @property
    def candidates(self) -> int:
        """How many candidates the loop asks for in a step."""
        return int(self.config.candidates)

    def asks_llm(self, params: Sequence[Param]) -> bool:
        """Whether it proposes with a language model for these parameters; by default `needs_llm`."""
        return self.needs_llm

    def parent(self, state: State) -> Mapping[str, Any]:
        """The values that this step works from: by default those that the loop holds, `state.current`.

        Any complete values of the history may be chosen; `state` has no trajectories yet. What a candidate leaves
        out is filled from them. Acceptance compares with the held values all the same.
        """
        return state.current

    def calls(self, params: int) -> int:
        """Calls of the model in a step, for so many parameters: what a projected cost is made of."""
        return int(self.needs_llm)

    def answer_tokens(self, params: int) -> int:
        """The most tokens that the answers of a step have: an answer for each candidate in each call."""
        longest = getattr(self.config, "max_tokens", DEFAULT_MAX_TOKENS)
        return self.calls(params) * self.candidates * int(longest)

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


def values_key(values: Mapping[str, Any]) -> str:
    """A short name of the values, equal for equal values."""
    text = json_text({name: values[name] for name in sorted(values)})
    return hashlib.sha256(text.encode()).hexdigest()[:20]
