"""What votes say of the annotators and of the form: bias to a place, steadiness, and gold questions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.ranking.agreement import mean, midranks
from engine.ranking.ranking import Ranking
from engine.ranking.vote import Vote

LEAST_EXPECTED = 5
"""Winners to be expected in each place for the chi-square distribution to hold (Cochran 1954)."""


@dataclass(frozen=True)
class Place:
    """What becomes of the candidates shown in one place, 1 on top.

    shown: of how many votes. first: the share of them that rank it first, a tie for the first place shared. by_chance:
    what that share would be if the place said nothing. standing: the mean of its rank, from 0 (the best) to 1.
    """

    place: int
    shown: int
    first: float
    by_chance: float
    standing: float


@dataclass(frozen=True)
class PositionBias:
    """places: from the top. tested: votes in the test. p_value: how likely winners are to lie so unevenly by chance;
    None where too few votes name one winner."""

    places: list[Place]
    tested: int
    p_value: float | None


def position_bias(votes: Sequence[Vote]) -> PositionBias:
    """Whether it matters where a candidate is shown.

    The test is chi-square, of the places of single winners against an even spread: apart for each number of
    candidates, where at least 5 winners a place are expected, and summed. Every vote is shuffled anew, so all count:
    further showings too. Raises ModuleNotFoundError without scipy (the extra `web`).
    """
    ranking = [vote for vote in votes if vote.ranking.tiers and len(vote.shown) > 1]
    longest = max((len(vote.shown) for vote in ranking), default=0)
    tested, p_value = _evenness(ranking)
    return PositionBias([_place(at, ranking) for at in range(longest)], tested, p_value)


def self_agreement(votes: Sequence[Vote]) -> dict[str, tuple[int, float | None]]:
    """annotator -> (questions shown to them again, the mean share of pairs that they order as the first time).

    A tie against an order is half the same. By chance 1/2, without ties. Pairs unranked both times are left out.
    """
    firsts: dict[tuple[str, str], Vote] = {}
    shares: dict[str, list[float]] = {vote.annotator: [] for vote in votes}
    for vote in sorted(votes, key=lambda one: one.at):
        first = firsts.setdefault((vote.annotator, vote.original or vote.question), vote)
        if first is not vote and (share := _same_order(first.ranking, vote.ranking)) is not None:
            shares[vote.annotator].append(share)
    return _counted(shares)


def gold_accuracy(votes: Sequence[Vote]) -> dict[str, tuple[int, float | None]]:
    """annotator -> (gold questions judged, the mean share of gold's (better, worse) pairs that they order so).

    A tie is half right; by chance 1/2. Pairs that a vote leaves unranked are left out, as in naming one best; all
    showings count.
    """
    shares: dict[str, list[float]] = {vote.annotator: [] for vote in votes}
    for vote in votes:
        if vote.gold is not None and (share := _share_right(vote.ranking, vote.gold)) is not None:
            shares[vote.annotator].append(share)
    return _counted(shares)


def _counted(shares: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, float | None]]:
    return {annotator: (len(known), mean(known)) for annotator, known in shares.items()}


def _same_order(one: Ranking, other: Ranking) -> float | None:
    ids = sorted(one.ids, key=repr)
    silent = set(one.unranked) & set(other.unranked)
    pairs = [pair for pair in itertools.combinations(range(len(ids)), 2) if not {ids[at] for at in pair} <= silent]
    if one.cannot_judge or other.cannot_judge:
        return None
    a, b = one.preferences(ids), other.preferences(ids)
    return mean(1 - abs(a[i][j] - b[i][j]) for i, j in pairs)


def _share_right(ranking: Ranking, gold: Ranking) -> float | None:
    if ranking.cannot_judge:
        return None
    row = {one: at for at, one in enumerate(ranking.ids)}
    table, silent = ranking.preferences(), set(ranking.unranked)
    return mean(table[row[a]][row[b]] for a, b in gold.pairs() if not {a, b} <= silent)


def _place(at: int, votes: Sequence[Vote]) -> Place:
    """The place with that many above it."""
    shown = [vote for vote in votes if at < len(vote.shown)]
    first = [1 / len(best) if vote.shown[at] in (best := vote.ranking.tiers[0]) else 0.0 for vote in shown]
    ranks = [midranks(vote.ranking, vote.shown)[at] for vote in shown]
    return Place(
        place=at + 1,
        shown=len(shown),
        first=mean(first) or 0.0,
        by_chance=mean(1 / len(vote.shown) for vote in shown) or 0.0,
        standing=mean((rank - 1) / (len(vote.shown) - 1) for rank, vote in zip(ranks, shown, strict=True)) or 0.0,
    )


def _evenness(votes: Sequence[Vote]) -> tuple[int, float | None]:
    """How many votes are in the test, and its p-value."""
    from scipy.stats import chi2

    winners: dict[int, Counter[int]] = {}
    for vote in votes:
        if len(vote.ranking.tiers[0]) == 1:
            place = vote.shown.index(vote.ranking.tiers[0][0])
            winners.setdefault(len(vote.shown), Counter())[place] += 1
    enough = {size: seen for size, seen in winners.items() if seen.total() >= LEAST_EXPECTED * size}
    if not enough:
        return 0, None
    statistic = sum(
        (seen[place] - seen.total() / size) ** 2 / (seen.total() / size)
        for size, seen in enough.items()
        for place in range(size)
    )
    tested = sum(seen.total() for seen in enough.values())
    return tested, float(chi2.sf(statistic, sum(size - 1 for size in enough)))
