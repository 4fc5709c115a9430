"""Strengths of candidates across questions, from all rankings that they stand in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import InputError
from engine.ranking.aggregate import by_question
from engine.ranking.ranking import Id, Ranking
from engine.ranking.vote import Vote


def strengths(votes: Sequence[Vote], *, penalty: float = 0.1) -> dict[Id, float]:
    """candidate id -> strength s, on a log scale: a is put before b with probability 1 / (1 + exp(s_b - s_a)).

    The mode of the likelihood times exp(-penalty * sum of s^2), by choix (Maystre and Grossglauser 2015). A candidate
    is known by its id, so the same content in two questions is one candidate. The first vote of each annotator counts.

    Without ties the model is Plackett and Luce's: the first is chosen among all, the second among the rest, and so on;
    the order of the unranked is not known and says nothing. Where a tier holds two candidates the model is Bradley and
    Terry's over the pairs of each ranking, a tie being half a win for each; pairs of one ranking are then taken as
    independent, which keeps the order and makes the strengths look surer than they are. The unranked of one ranking
    are no pair.

    Candidates that no chain of comparisons joins (see `groups`) are fitted apart. The penalty keeps strengths finite,
    also of one that always wins, and centres each group on 0: strengths of two groups cannot be compared.
    Raises InputError for a penalty that is not above 0, and ModuleNotFoundError without choix (the extra `web`).
    """
    if not penalty > 0:
        raise InputError(f"the penalty is {penalty!r}", allowed="a number above 0: without it strengths are infinite")
    rankings = _rankings(votes)
    parts = _groups(rankings)
    part_of = {one: number for number, group in enumerate(parts) for one in group}
    of: dict[int, list[Ranking]] = {}
    for ranking in rankings:
        of.setdefault(part_of[ranking.ids[0]], []).append(ranking)
    return {one: s for number, part in of.items() for one, s in _fitted(parts[number], part, penalty).items()}


def groups(votes: Sequence[Vote]) -> list[set[Id]]:
    """The candidates that comparisons join, the largest group first."""
    return sorted(_groups(_rankings(votes)), key=len, reverse=True)


def _rankings(votes: Sequence[Vote]) -> list[Ranking]:
    """The rankings that compare candidates."""
    found = (vote.ranking for of in by_question(votes).values() for vote in of)
    return [ranking for ranking in found if ranking.tiers and len(ranking.ids) > 1]


def _groups(rankings: Sequence[Ranking]) -> list[set[Id]]:
    group_of: dict[Id, set[Id]] = {}
    for ranking in rankings:
        joined = set(ranking.ids).union(*(group_of.get(one, ()) for one in ranking.ids))
        group_of.update(dict.fromkeys(joined, joined))
    return list({id(group): group for group in group_of.values()}.values())


def _fitted(group: set[Id], rankings: Sequence[Ranking], penalty: float) -> dict[Id, float]:
    import choix

    ids = sorted(group, key=repr)
    row = {one: number for number, one in enumerate(ids)}
    if any(len(tier) > 1 for ranking in rankings for tier in ranking.tiers):
        pairs = [(row[a], row[b]) for ranking in rankings for a, b in _doubled_pairs(ranking)]
        found = choix.opt_pairwise(len(ids), pairs, 2 * penalty, initial_params=_near(choix.lsr_pairwise, ids, pairs))
    else:
        chosen = [(row[a], tuple(row[b] for b in rest)) for ranking in rankings for a, rest in _choices(ranking)]
        found = choix.opt_top1(len(ids), chosen, penalty, initial_params=_near(choix.lsr_top1, ids, chosen))
    return {one: float(strength) for one, strength in zip(ids, found, strict=True)}


def _near(lsr: Callable[..., Any], ids: Sequence[Id], data: Sequence[Any]) -> Any:
    """Where to start: a few rounds of spectral ranking, which is fast and comes near, halve the time (measured)."""
    found = None
    for _ in range(3):
        found = lsr(len(ids), data, alpha=0.01, initial_params=found)
    return found


def _doubled_pairs(ranking: Ranking) -> list[tuple[Id, Id]]:
    """(winner, loser): twice where one is better, once in each direction for a tie."""
    ties = [pair for tier in ranking.tiers for pair in itertools.permutations(tier, 2)]
    return [*ranking.pairs(), *ranking.pairs(), *ties]


def _choices(ranking: Ranking) -> list[tuple[Id, tuple[Id, ...]]]:
    """(chosen, the others that were left): of a ranking without ties."""
    ids = ranking.ids
    return [(one, ids[place + 1 :]) for place, (one,) in enumerate(ranking.tiers) if ids[place + 1 :]]
