"""How much of a best score is luck: the score of the best of many, corrected for having been chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from engine.acceptance import Interval

MOST_PRODUCTS = 200_000_000
"""Bounds resamples x candidates x examples, and so time and memory."""

Row = Sequence[float]


@dataclass(frozen=True)
class Corrected:
    """What choosing the best of `candidates` on the examples gives on others, with 95 % intervals.

    `score`: of the chosen; `difference`: the chosen's minus the starting values' on the same examples.
    """

    score: Interval
    difference: Interval
    candidates: int

    def __str__(self) -> str:
        return f"corrected for the choice among {self.candidates}: {self.score}, difference {self.difference}"

    def to_json(self) -> dict[str, Any]:
        return {
            "candidates": self.candidates,
            **asdict(self.score),
            "difference": self.difference.score,
            "difference_low": self.difference.low,
            "difference_high": self.difference.high,
        }


def corrected(scores: Sequence[Row], *, resamples: int = 1000, seed: int = 0) -> Corrected | None:
    """The bootstrap bias correction (BBC-CV; Tsamardinos et al., Machine Learning 2018, arXiv 1708.07180).

    scores: a row for each candidate, all on the same examples, the starting values' first. In every bootstrap
    sample of the examples the candidate with the highest mean in the sample is judged by the examples that the
    sample left out; the estimates are the means of that, the intervals its percentiles. Deterministic for a seed.
    None for fewer than two candidates or eight examples, where there is nothing to resample.

    It corrects for choosing, not for reading: candidates that were written with these examples in view may fit
    them in a way that only held-out examples show.
    """
    if len(scores) < 2 or len(scores[0]) < 8:
        return None
    rows, n = np.asarray(scores, dtype=float), len(scores[0])
    resamples = max(200, min(resamples, MOST_PRODUCTS // rows.size))
    counts = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=resamples)
    counts = counts[(counts == 0).any(1)]  # with eight examples one in four hundred leaves none out
    left_out = counts == 0
    best = (counts @ rows.T).argmax(1)
    chosen, gains = ((left_out * picked).sum(1) / left_out.sum(1) for picked in (rows[best], rows[best] - rows[0]))
    return Corrected(_interval(chosen.tolist(), n), _interval(gains.tolist(), n), len(scores))


def _interval(means: Sequence[float], n: int) -> Interval:
    """Mean and 95 % percentiles of the resampled means."""
    ordered, cut = sorted(means), int(0.025 * len(means))
    return Interval(fmean(means), ordered[cut], ordered[-1 - cut], n)
