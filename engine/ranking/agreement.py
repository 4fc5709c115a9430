"""How far annotators agree: Kendall's W, Krippendorff's alpha, and each of them against the others."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

from engine.ranking.aggregate import by_question
from engine.ranking.ranking import Id, Ranking
from engine.ranking.vote import Vote


@dataclass(frozen=True)
class Agreement:
    """Over the questions that two or more annotators judged.

    kendall_w: the mean over questions; 1 where all say the same, and by chance one over the number of annotators.
    spearman: the mean of Spearman's rho over pairs of annotators, which W gives: by chance 0. alpha: Krippendorff's,
    ordinal, of the places that annotators give to candidates (0 the best, 1 the worst), all questions together; by
    chance 0. None where there is nothing to tell it by.
    """

    questions: int
    kendall_w: float | None
    spearman: float | None
    alpha: float | None


def agreement(votes: Sequence[Vote]) -> Agreement:
    """How far annotators agree; the first vote of each on a question counts, if it judges."""
    tables = _tables(votes)
    ws = [(len(table), w) for table in tables if (w := kendall_w(list(table.values()))) is not None]
    units = [place for table in tables for place in zip(*(_places(ranks) for ranks in table.values()), strict=True)]
    return Agreement(
        questions=len(tables),
        kendall_w=mean(w for _, w in ws),
        spearman=mean((m * w - 1) / (m - 1) for m, w in ws),
        alpha=krippendorff_alpha(units),
    )


def against_others(votes: Sequence[Vote]) -> dict[str, float | None]:
    """annotator -> Kendall's tau-b between their ranks and the mean ranks of the others, the mean over questions.

    1 where they order as the others do, 0 by chance. Questions on which one side is all tied are left out; None where
    none is left.
    """
    found: dict[str, list[float]] = {vote.annotator: [] for vote in votes}
    for table in _tables(votes):
        for annotator, ranks in table.items():
            others = [other for name, other in table.items() if name != annotator]
            tau = tau_b(ranks, [statistics.fmean(column) for column in zip(*others, strict=True)])
            found[annotator] += [] if tau is None else [tau]
    return {annotator: mean(taus) for annotator, taus in found.items()}


def midranks(ranking: Ranking, ids: Sequence[Id]) -> list[float]:
    """The rank of each id, 1 the best; those of one tier, and the unranked, share the mean of their ranks."""
    return [len(ids) + 0.5 - sum(row) for row in ranking.preferences(ids)]


def kendall_w(ranks: Sequence[Sequence[float]]) -> float | None:
    """Kendall's coefficient of concordance of (m annotators, n candidates) midranks, corrected for ties; 0 to 1.

    W = (12 S - 3 m^2 n (n + 1)^2) / (m^2 n (n^2 - 1) - m T), with S the sum over candidates of the squared sum of
    ranks and T the sum over annotators and their ties of t^3 - t (Kendall and Gibbons 1990). None for fewer than two
    annotators or candidates, and where nobody prefers anything.
    """
    m, n = len(ranks), len(ranks[0]) if ranks else 0
    if m < 2 or n < 2:
        return None
    squares = sum(sum(column) ** 2 for column in zip(*ranks, strict=True))
    ties = sum(t**3 - t for row in ranks for t in Counter(row).values())
    most = m**2 * n * (n**2 - 1) - m * ties
    return (12 * squares - 3 * m**2 * n * (n + 1) ** 2) / most if most else None


def krippendorff_alpha(
    units: Iterable[Sequence[float]], metric: Literal["nominal", "ordinal", "interval"] = "ordinal"
) -> float | None:
    """Krippendorff's alpha of units, each with the values that annotators gave it; those not given are left out.

    alpha = 1 - D_o / D_e from the matrix of coincidences (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). The ordinal difference of two values is the number of values that lie between, the two
    themselves by half. None where fewer than two different values can be paired.
    """
    coincidences: Counter[tuple[float, float]] = Counter()
    for values in units:
        for pair in permutations(values, 2):
            coincidences[pair] += 1 / (len(values) - 1)  # type: ignore[assignment]  # a Counter of floats
    totals: dict[float, float] = {}
    for (value, _), count in sorted(coincidences.items()):
        totals[value] = totals.get(value, 0.0) + count
    at = _midpoints(totals) if metric == "ordinal" else {value: value for value in totals}

    def apart(c: float, k: float) -> float:
        return float(c != k) if metric == "nominal" else (at[c] - at[k]) ** 2

    observed = sum(count * apart(c, k) for (c, k), count in coincidences.items())
    expected = sum(totals[c] * totals[k] * apart(c, k) for c, k in permutations(totals, 2))
    return 1 - (sum(totals.values()) - 1) * observed / expected if expected else None


def tau_b(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b, -1 to 1: concordant less discordant pairs, corrected for ties; None if one side is all tied."""
    pairs = [(_sign(a - b), _sign(c - d)) for (a, c), (b, d) in combinations(zip(one, other, strict=True), 2)]
    scale = math.sqrt(sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs))
    return sum(a * b for a, b in pairs) / scale if scale else None


def mean(values: Iterable[float]) -> float | None:
    """The mean, or None of nothing."""
    known = list(values)
    return statistics.fmean(known) if known else None


def _tables(votes: Sequence[Vote]) -> list[dict[str, list[float]]]:
    """Of each question that two or more judged: annotator -> the ranks of its candidates, in one order."""
    found = []
    for of in by_question(votes).values():
        ids = sorted(of[0].ranking.ids, key=repr)
        table = {vote.annotator: midranks(vote.ranking, ids) for vote in of if not vote.ranking.cannot_judge}
        found += [table] if len(table) > 1 and len(ids) > 1 else []
    return found


def _places(ranks: Sequence[float]) -> list[float]:
    """Ranks from 0, the best, to 1, the worst, so that questions of different length can be taken together."""
    return [(2 * rank - 2) / (2 * len(ranks) - 2) for rank in ranks]


def _midpoints(totals: Mapping[float, float]) -> dict[float, float]:
    """Of ascending values: how much lies below each, and half of itself."""
    found, below = {}, 0.0
    for value, count in totals.items():
        found[value] = below + count / 2
        below += count
    return found


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
