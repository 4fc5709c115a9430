"""What several annotators say together of one question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.errors import InputError
from engine.ranking.ranking import Id, Ranking
from engine.ranking.vote import Vote


def merged(rankings: Sequence[Ranking]) -> Ranking:
    """One ranking of the same candidates by Borda's count, whatever the order of the rankings.

    Rankings that cannot judge are left out; if all are, the merged one cannot judge. Whom none ranks stays unranked.
    `all_bad` where more than half of those who judge say so. note: the different notes, joined in their order.
    Raises InputError for no rankings and for different candidates.
    """
    ids = _same_ids(rankings)
    note = "; ".join(dict.fromkeys(ranking.note for ranking in rankings if ranking.note))
    judging = [ranking for ranking in rankings if not ranking.cannot_judge]
    if not judging:
        return Ranking(unranked=ids, cannot_judge=True, note=note)
    all_bad = 2 * sum(ranking.all_bad for ranking in judging) > len(judging)
    ranked = {one for ranking in judging for tier in ranking.tiers for one in tier}
    scores = {one: count if one in ranked else None for one, count in borda(judging).items()}
    return replace(Ranking.by_score(scores), all_bad=all_bad, note=note)


def borda(rankings: Sequence[Ranking]) -> dict[Id, float]:
    """id -> how many others it beats in the mean over the rankings, half for a tie; the unranked of one are a tie.

    From 0 to one less than there are candidates. Raises InputError for no rankings, for different candidates, and
    for one that cannot judge.
    """
    ids = _same_ids(rankings)
    if any(ranking.cannot_judge for ranking in rankings):
        raise InputError("a ranking that cannot judge has no Borda count", next_step="leave it out")
    tables = [ranking.preferences(ids) for ranking in rankings]
    return {one: sum(sum(t[row]) for t in tables) / len(tables) - 0.5 for row, one in enumerate(ids)}


def by_question(votes: Iterable[Vote]) -> dict[str, list[Vote]]:
    """The id of a question's first showing -> one vote of each annotator: their first, the oldest in front.

    Further showings to the same annotator tell how steady they are, and are no second vote.
    """
    found: dict[str, dict[str, Vote]] = {}
    for vote in sorted(votes, key=lambda one: one.at):
        found.setdefault(vote.original or vote.question, {}).setdefault(vote.annotator, vote)
    return {question: list(of.values()) for question, of in found.items()}


def _same_ids(rankings: Sequence[Ranking]) -> list[Id]:
    """The candidates, in an order that says nothing of the rankings."""
    if not rankings:
        raise InputError("no rankings to merge", allowed="one or more")
    if any(set(ranking.ids) != set(rankings[0].ids) for ranking in rankings):
        raise InputError("the rankings are of different candidates", allowed="the same ids in each")
    return sorted(rankings[0].ids, key=repr)
