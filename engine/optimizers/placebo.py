"""The control that shows whether judgements matter: an optimizer that reads shuffled ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from engine.optimizers._wrapping import Wrapping
from engine.optimizers.base import Candidate, Evaluation, Options, State, Trajectory


class PlaceboOptions(Options):
    of: str | dict[str, Any] = Field(default="opro", description="the optimizer, as a name or with its options")


class Placebo(Wrapping):
    """Another optimizer whose every score and feedback text is somebody else's.

    The judgements in the history are dealt out anew among its evaluations, none keeping its own where
    there are two or more; each trajectory gets a judgement drawn from the history, and their order
    is random. The loop still accepts by the true scores, so the present values are true:
    the placebo keeps what selection alone gives, and loses what reading the judgements gives.
    `candidates` is the wrapped optimizer's.
    """

    Config: ClassVar[type[Options]] = PlaceboOptions

    def parent(self, state: State) -> Mapping[str, Any]:
        return self._inner.parent(replace(state, history=shuffled(state.history, state.rng)))

    def propose(self, state: State, n: int) -> list[Candidate]:
        history = shuffled(state.history, state.rng)
        blind = replace(state, history=history, trajectories=_misjudged(state.trajectories, history, state.rng))
        return self._inner.propose(blind, n)

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        self._inner.observe(shuffled(evaluations, random.Random(len(evaluations))))


def shuffled(evaluations: Sequence[Evaluation], rng: random.Random) -> list[Evaluation]:
    """The same candidates with each other's judgements: a random cyclic order, so that none keeps its own."""
    order = rng.sample(range(len(evaluations)), len(evaluations))
    judges = dict(zip(order, order[1:] + order[:1], strict=True))
    return [replace(evaluations[judges[i]], candidate=e.candidate, step=e.step) for i, e in enumerate(evaluations)]


def _misjudged(
    trajectories: Sequence[Trajectory], history: Sequence[Evaluation], rng: random.Random
) -> list[Trajectory]:
    pool = [feedback for evaluation in history for feedback in evaluation.feedback]
    dealt = [replace(trajectory, feedback=rng.choice(pool)) for trajectory in trajectories]
    return rng.sample(dealt, len(dealt))


OPTIMIZER = Placebo
