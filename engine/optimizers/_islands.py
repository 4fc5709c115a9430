"""Populations that evolve apart and exchange their best: computed anew from the history, so nothing is stored."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.optimizers._compared import whole_scores
from engine.optimizers.base import Evaluation

Island = list[Evaluation]
"""The evaluations of a population, the best first; of equal ones the newest."""


def islands(
    history: Sequence[Evaluation], step: int, *, count: int, population: int, migrate_every: int
) -> list[Island]:
    """The islands as they are when `step` begins.

    The starting values live on all of them; what a step evaluates lives on that step's island (`island_of`). After
    every `migrate_every` steps the best of each island is copied to the next one, that of the last to the first.
    At most `population` live on one: those leave first that have the scores of a newer one on every example, then
    the worst.
    """
    start, *rest = map(_Member.of, history, whole_scores(history))
    by_step: dict[int, list[_Member]] = {}
    for member in rest:
        by_step.setdefault(member.evaluation.step, []).append(member)
    found = [[start] for _ in range(count)]
    for done in range(1, step):
        here = island_of(done, count)
        found[here] = _kept([*found[here], *by_step.get(done, [])], population)
        if done % migrate_every == 0:
            best = [island[0] for island in found]
            found = [_kept(_with(island, best[i - 1]), population) for i, island in enumerate(found)]
    return [[member.evaluation for member in island] for island in found]


def island_of(step: int, count: int) -> int:
    """The island that a step works on: one after the other."""
    return (step - 1) % count


def drawn(island: Island, rng: random.Random) -> Evaluation:
    """A member, with weights 1, 1/2, 1/3... from the best to the worst."""
    return rng.choices(island, [1 / place for place in range(1, len(island) + 1)])[0]


def inspirations(island: Island, parent: Mapping[str, Any], count: int) -> list[Evaluation]:
    """Other members: half of them (rounded up) the best, then those that beat what is shown on the most examples."""
    others = [e for e in island if e.candidate.values != parent]
    chosen = others[: (count + 1) // 2]
    shown = [e for e in island if e.candidate.values == parent] + chosen
    while len(chosen) < min(count, len(others)):
        left = [e for e in others if not any(e is one for one in chosen)]
        chosen.append(max(left, key=lambda e: _wins(e, shown)))  # of equals the first, which is the best
        shown.append(chosen[-1])
    return chosen


@dataclass(frozen=True, eq=False)
class _Member:
    """An evaluation with what is compared often: its place in an order, and its scores by example."""

    evaluation: Evaluation
    order: tuple[tuple[float, float], int]
    pattern: frozenset[tuple[int, float | None]]

    @classmethod
    def of(cls, evaluation: Evaluation, score: float | None) -> _Member:
        pattern = frozenset(zip(evaluation.examples, evaluation.scores, strict=True))
        rank = evaluation.rank[0], -math.inf if score is None else score
        return cls(evaluation, (rank, evaluation.step), pattern)


def _kept(members: Sequence[_Member], population: int) -> list[_Member]:
    """Those that stay, the best first."""
    ordered = sorted(members, key=lambda member: member.order, reverse=True)
    if len(ordered) <= population:
        return ordered
    newest: dict[Any, _Member] = {}
    for member in ordered:
        newest.setdefault(member.pattern, member)
    twins = [member for member in ordered if member is not newest[member.pattern]]
    staying = [*newest.values(), *twins][:population]
    return sorted(staying, key=lambda member: member.order, reverse=True)


def _with(island: list[_Member], migrant: _Member) -> list[_Member]:
    return island if migrant in island else [*island, migrant]


def _wins(evaluation: Evaluation, others: Sequence[Evaluation]) -> int:
    """On how many examples it scores higher than all others."""
    highest: dict[int, float] = {}
    for other in others:
        for example, score in _scores(other).items():
            highest[example] = max(score, highest.get(example, -math.inf))
    return sum(score > highest.get(example, -math.inf) for example, score in _scores(evaluation).items())


def _scores(evaluation: Evaluation) -> dict[int, float]:
    pairs = zip(evaluation.examples, evaluation.scores, strict=True)
    return {example: score for example, score in pairs if score is not None}
