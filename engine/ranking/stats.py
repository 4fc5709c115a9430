"""A summary of votes: who said how much, how fast, how well, and what they hold of the candidates."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.ranking.agreement import against_others, agreement
from engine.ranking.plackett_luce import groups, strengths
from engine.ranking.quality import gold_accuracy, position_bias, self_agreement
from engine.ranking.ranking import Id
from engine.ranking.vote import Vote

Summary = dict[str, Any]
"""What JSON can hold; None for a number that there are too few votes to tell."""

TOP = 20


def summary(votes: Sequence[Vote], *, top: int = TOP) -> Summary:
    """The statistics of all votes, late ones too.

    `questions`, `votes`, `late`, `cannot_judge`, `all_bad`: counts. `seconds`: the median of a vote. `agreement`: see
    `Agreement`. `annotators`: a row each, by name. `positions`: see `PositionBias`. `strongest`: the `top` candidates
    of the largest group by strength, and `groups`: how many candidates each group of comparable ones has.
    Raises ModuleNotFoundError without scipy and choix (the extra `web`).
    """
    joined = groups(votes)
    return {
        "questions": len({vote.original or vote.question for vote in votes}),
        **_counts(votes),
        "agreement": asdict(agreement(votes)),
        "annotators": annotators(votes),
        "positions": asdict(position_bias(votes)),
        "groups": [len(group) for group in joined],
        "strongest": _strongest(votes, joined[0] if joined else set())[:top],
    }


def annotators(votes: Sequence[Vote]) -> list[Summary]:
    """A row of each annotator, by name: counts, `seconds`, and how well they do.

    `others`: Kendall's tau-b against the mean of the others. `repeats` and `steady`: questions shown again, and the
    share of pairs ordered as before. `gold` and `right`: gold questions, and the share of their pairs ordered so.
    """
    others, steady, right = against_others(votes), self_agreement(votes), gold_accuracy(votes)
    return [
        {
            "annotator": name,
            **_counts([vote for vote in votes if vote.annotator == name]),
            "others": others[name],
            "repeats": steady[name][0],
            "steady": steady[name][1],
            "gold": right[name][0],
            "right": right[name][1],
        }
        for name in sorted(others)
    ]


def shown_as(value: Any) -> str:
    """A candidate as text: itself, or what stands for a picture or a sound."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "mime" in value:
        return f"[{value['mime']}] {value.get('alt') or value.get('sha256', '')}"
    return "" if value is None else str(value)


def _counts(votes: Sequence[Vote]) -> Summary:
    return {
        "votes": len(votes),
        "late": sum(vote.is_late for vote in votes),
        "cannot_judge": sum(vote.ranking.cannot_judge for vote in votes),
        "all_bad": sum(vote.ranking.all_bad for vote in votes),
        "seconds": statistics.median(vote.seconds for vote in votes) if votes else None,
    }


def _strongest(votes: Sequence[Vote], group: set[Id]) -> list[Summary]:
    """The candidates of the group, the strongest first."""
    within = [vote for vote in votes if group & set(vote.ranking.ids)]
    text = {one: shown_as(value) for vote in within for one, value in (vote.candidates or {}).items()}
    rows = [{"id": one, "text": text.get(one, ""), "strength": s} for one, s in strengths(within).items()]
    return sorted(rows, key=lambda row: (-row["strength"], repr(row["id"])))
