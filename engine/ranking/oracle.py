"""What a ranking says of a gradient: weights for the perturbations that were ranked (ZO-RankSGD, 2303.03751)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.errors import InputError
from engine.ranking.ranking import Ranking

Levels = Sequence[Sequence[int]]
"""Numbers of candidates, the best level first; those of one level are equal. Who stands nowhere is not known."""


def ranking_weights(m: int, k: int) -> list[float]:
    """The m weights of an (m, k) oracle's answer in rank order: the k ranked, then the m - k unranked.

    w_r = (2r - m - 1) / |E| at place r <= k, and k / |E| for the unranked, with |E| = k(k-1)/2 + k(m-k) pairs
    of which it is known who is better (2303.03751, equation 5). They sum to 0; the best has the least weight,
    because g = sum_i w_i xi_i points to where it gets worse. Raises InputError for k outside 1..m or m < 2.
    """
    check_oracle(m, k)
    levels = [[place] for place in range(k)] + [list(range(k, m))]
    return level_weights(levels, m)


def level_weights(levels: Levels, m: int) -> list[float]:
    """The weights of candidates 0..m-1: (those above - those below) / |E|, over every pair that levels tell apart.

    The same as summing (xi_worse - xi_better) / |E| over the pairs: a tie is no pair, and a candidate that
    stands in no level is in none and gets 0. All are 0 where no two are told apart.
    """
    above, weights = 0, [0] * m
    total = sum(len(level) for level in levels)
    for level in levels:
        for candidate in level:
            weights[candidate] = above - (total - above - len(level))
        above += len(level)
    edges = (total**2 - sum(len(level) ** 2 for level in levels)) // 2
    return [weight / edges if edges else 0.0 for weight in weights]


def ranked_levels(ranking: Ranking, number_of: Mapping[str, int], k: int) -> list[list[int]]:
    """The levels that an (m, k) oracle keeps of a ranking: tiers until k candidates are ranked, then all others.

    A tier that reaches beyond place k is kept whole. Within a level the numbers ascend: the order in which a tie was
    named says nothing, and so leaves no trace. Empty where nobody can judge. number_of: id -> number of each candidate
    that was shown; ids of it that the ranking does not name stand in no level.
    Raises InputError for an id that was not shown.
    """
    if not isinstance(ranking, Ranking):
        raise InputError(f"told {ranking!r:.80}", allowed="an engine.ranking.Ranking")
    if unknown := [one for one in ranking.ids if one not in number_of]:
        raise InputError(
            f"no candidate of this round has the id {unknown[0]!r}",
            allowed=", ".join(number_of),
            next_step="tell a ranking of what the last ask() gave",
        )
    if ranking.cannot_judge:
        return []
    levels: list[list[int]] = []
    rest: list[int] = []
    ranked = 0
    for tier in ranking.tiers:
        numbers = [number_of[str(one)] for one in tier]
        if ranked < k:
            levels.append(sorted(numbers))
            ranked += len(numbers)
        else:
            rest += numbers
    rest += [number_of[str(one)] for one in ranking.unranked]
    return [*levels, sorted(rest)] if rest else levels


def check_oracle(m: int, k: int) -> None:
    """Raises InputError for an (m, k) oracle that cannot be."""
    for name, value in (("m", m), ("k", k)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{name} is {value!r}", allowed="a whole number")
    if m < 2 or not 1 <= k <= m:
        raise InputError(f"an oracle that ranks the {k} best of {m}", allowed="m of at least 2, k from 1 to m")
