"""Votes for the tests of what is made of them."""

from __future__ import annotations

import itertools
from typing import Any

from engine.ranking import Ranking
from engine.ranking.vote import Vote

CLOCK = itertools.count(1_700_000_000)


def vote(question: str, annotator: str, tiers: Any, unranked: Any = (), **more: Any) -> Vote:
    """One vote, later than those before it; "cannot" as tiers says that they cannot judge. Texts are "text of ID"."""
    judges = tiers != "cannot"
    ranking = Ranking(
        tiers=[list(tier) for tier in tiers] if judges else (),
        unranked=list(unranked),
        all_bad=more.pop("all_bad", False),
        cannot_judge=not judges,
        note=more.pop("note", ""),
    )
    given: dict[str, Any] = {
        "shown": tuple(sorted(ranking.ids)),
        "at": float(next(CLOCK)),
        "seconds": 10.0,
        "original": question,
        "prompt": f"prompt of {question}",
        "candidates": {one: f"text of {one}" for one in ranking.ids},
    }
    return Vote(question=question, annotator=annotator, ranking=ranking, **given | more)
