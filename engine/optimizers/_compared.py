"""What a history says of its candidates across steps: rankings within a step, and scores that can be compared."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from engine.feedback import Feedback
from engine.optimizers.base import Evaluation, values_key
from engine.ranking.bradley_terry import strengths_of, win_counts
from engine.ranking.ranking import Id, Ranking

PENALTY = 0.1
"""The prior of strengths, as in `engine.ranking.plackett_luce`: a normal one with variance 1 / (2 * 0.1) = 5."""


@dataclass(frozen=True)
class Round:
    """One step: the candidates, the values held while it ran, and a ranking of them on each example.

    Ids are `values_key` of the values. On an example where less than two can be compared there is no ranking.
    """

    held: Evaluation
    evaluations: tuple[Evaluation, ...]
    rankings: tuple[Ranking, ...]

    @property
    def is_accepted(self) -> bool:
        return any(e.accepted for e in self.evaluations)


def rounds(history: Sequence[Evaluation], *, is_ranked: bool) -> list[Round]:
    """The steps of a history, oldest first. is_ranked: as in `State`, here and below.

    A ranking is that of the scores on an example, the held values' among them: with plain scores their own, and
    where a ranker judges what the others leave (win rates of k candidates have the sum k / 2). Who failed or has
    no score there is not in the ranking.
    """
    if not history:
        return []
    held = history[0]
    found = []
    for _, group in itertools.groupby(history[1:], key=lambda e: e.step):
        evaluations = tuple(group)
        examples = sorted({i for e in evaluations for i in e.examples})
        rankings = [_ranking(held, evaluations, i, is_ranked=is_ranked) for i in examples]
        found.append(Round(held, evaluations, tuple(r for r in rankings if len(r.ids) > 1)))
        held = next((e for e in evaluations if e.accepted), held)
    return found


def strengths(history: Sequence[Evaluation], *, is_ranked: bool) -> dict[Id, float]:
    """values_key -> Bradley-Terry strength from the rankings of all steps, the starting values' being 0.

    The held values are in every ranking, and so join the steps. Each ranking counts as one comparison less than it has
    candidates. Values that no ranking holds are not there.
    """
    rankings = [ranking for each in rounds(history, is_ranked=is_ranked) for ranking in each.rankings]
    ids = list(dict.fromkeys(one for ranking in rankings for one in ranking.ids))
    if not ids:
        return {}
    found, _ = strengths_of(win_counts(rankings, ids, is_even=True), penalty=PENALTY)
    start = dict(zip(ids, found, strict=True)).get(_id(history[0]), 0.0)
    return {one: float(s - start) for one, s in zip(ids, found, strict=True)}


def comparable_scores(history: Sequence[Evaluation]) -> list[float | None]:
    """A number for each evaluation, higher is better, that may be compared with those of other steps; None: all failed.

    The mean over its examples of (score - starting values' score), so that an easy batch is no merit; an example on
    which the starting values have no score is compared with the mean score there. A failed run counts as the lowest
    difference of the history. Several objectives count as their mean.
    """
    against = _against(history)
    lowest = min((s - against[i] for e in history for i, s in _scored(e).items()), default=0.0)
    return [_difference(e, against, lowest) for e in history]


def whole_scores(history: Sequence[Evaluation]) -> list[float | None]:
    """The mean score of each evaluation as if on all of the data; None where it has none.

    Measured where it ran on all that the starting values ran on. On a part of it (`batch_size`, `halving`) the starting
    values' mean and the mean difference to them on that part, so that an easy batch is no merit.
    """
    own = [e.score for e in history]
    if not history or own[0] is None or all(e.examples == history[0].examples for e in history):
        return own
    return [
        score if e.examples == history[0].examples or difference is None else own[0] + difference
        for e, score, difference in zip(history, own, comparable_scores(history), strict=True)
    ]


def with_strengths(history: Sequence[Evaluation], *, is_ranked: bool) -> list[Evaluation]:
    """The evaluations, each with the probability to beat the starting values as its one score.

    For optimizers that compare scores across steps. Texts of the feedback are kept; who was in no ranking keeps its
    failures and has no score.
    """
    by_id = strengths(history, is_ranked=is_ranked)
    return [_told(e, by_id.get(_id(e), 0.0 if e is history[0] else None)) for e in history]


def _told(evaluation: Evaluation, strength: float | None) -> Evaluation:
    chance = None if strength is None else float(1 / (1 + np.exp(-np.clip(strength, -500, 500))))
    said = [
        Feedback(None if is_failed else chance, f.text or ("failed" if is_failed else "not compared"))
        for f, is_failed in zip(evaluation.feedback, _failures(evaluation), strict=True)
    ]
    return replace(evaluation, feedback=tuple(said))


def _ranking(held: Evaluation, evaluations: Sequence[Evaluation], example: int, *, is_ranked: bool) -> Ranking:
    scores: dict[Id, float] = {}
    for evaluation in evaluations:
        if (score := _scored(evaluation).get(example)) is not None:
            scores[_id(evaluation)] = score
    own = _left_over(held, list(scores.values()), example) if is_ranked else _scored(held).get(example)
    if own is not None:
        scores[_id(held)] = own
    return Ranking.by_score(scores)


def _left_over(held: Evaluation, rates: Sequence[float], example: int) -> float | None:
    """The held values' win rate, which those compared with them tell; None where they failed."""
    failed = dict(zip(held.examples, _failures(held), strict=True))
    own = (len(rates) + 1) / 2 - sum(rates)
    if not rates or failed.get(example, False) or not -0.001 <= own <= 1.001:
        return None
    near = [rate for rate in rates if abs(rate - own) < 1e-9]
    return near[0] if near else own


def _scored(evaluation: Evaluation) -> dict[int, float]:
    pairs = zip(evaluation.examples, evaluation.scores, _failures(evaluation), strict=True)
    return {i: s for i, s, failed in pairs if s is not None and not failed}


def _failures(evaluation: Evaluation) -> tuple[bool, ...]:
    return evaluation.failed or (False,) * len(evaluation.examples)


def _against(history: Sequence[Evaluation]) -> dict[int, float]:
    """The score of each example that others are compared with."""
    found: dict[int, list[float]] = {}
    for evaluation in history[1:]:
        for i, score in _scored(evaluation).items():
            found.setdefault(i, []).append(score)
    return {i: fmean(scores) for i, scores in found.items()} | (_scored(history[0]) if history else {})


def _difference(evaluation: Evaluation, against: Mapping[int, float], lowest: float) -> float | None:
    scores = _scored(evaluation)
    if not scores:
        return None
    failed = sum(_failures(evaluation))
    return (sum(s - against[i] for i, s in scores.items()) + failed * lowest) / (len(scores) + failed)


def _id(evaluation: Evaluation) -> str:
    return values_key(evaluation.candidate.values)
