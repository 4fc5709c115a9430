"""Votes as files for other programs: pairs for TRL, a table for spreadsheets, lines that can be replayed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

from engine.errors import InputError
from engine.jsonfiles import Row, json_text
from engine.ranking.aggregate import borda, by_question, merged
from engine.ranking.ranking import Id, Ranking
from engine.ranking.stats import shown_as
from engine.ranking.vote import Vote

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that spreadsheets run as a formula; the last four are the wide forms of the first."""

COLUMNS = (
    "question", "original", "repeat", "prompt", "annotator", "candidate", "text", "place", "rank", "is_tied",
    "all_bad", "cannot_judge", "seconds", "at", "is_late", "note",
)  # fmt: skip


def trl_rows(
    votes: Sequence[Vote], *, is_chat: bool = False, has_margin: bool = False, best_worst: bool = False
) -> dict[str, list[Row]]:
    """question -> rows of TRL's preference format, {"prompt", "chosen", "rejected"}, one for each (better, worse).

    From the merged ranking of the first votes of all annotators that are not late; ties give no row. A question gives
    none where nobody can judge and where most say that all are bad: what is chosen there is no example to learn
    from. Nor do candidates that are no text. is_chat: messages of a user and an assistant instead of plain texts.
    has_margin: a column `margin` for RewardTrainer, how much of all others the chosen beats more, 0 to 1. best_worst:
    only the first tier against the last. Raises InputError for votes without what was shown.
    """
    return {
        question: [
            _trl_row(of[0].prompt, pair, shown, is_chat=is_chat) | ({"margin": margin} if has_margin else {})
            for *pair, margin in _pairs([vote.ranking for vote in of], best_worst)
            if all(isinstance(shown[one], str) for one in pair)
        ]
        for question, of in by_question(vote for vote in votes if not vote.is_late).items()
        for shown in [_shown(of[0])]
    }


def csv_text(votes: Sequence[Vote]) -> str:
    """One line a vote and candidate, with a heading; UTF-8.

    place: where it was shown, 1 on top. rank: 1 and how many are better, empty for the unranked. at: ISO 8601, UTC.
    Texts come from models and people: one that a spreadsheet would run as a formula, as it begins with = + - @ or a
    tab or line break, gets a ' in front (OWASP, "CSV Injection"); the JSON formats hold them unchanged.
    """
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    table.writerow(COLUMNS)
    for vote in votes:
        for row in _cells(vote):
            table.writerow([_guarded(row[name]) if isinstance(row[name], str) else row[name] for name in COLUMNS])
    return out.getvalue()


def vote_rows(votes: Sequence[Vote]) -> list[Row]:
    """One row a vote, in the form of `RecordedRanker`: {"question", "items", "ranking"}, and what else is known.

    Replayed, the last vote on a question counts; `merged_rows` gives one for all. Ids become text, as keys in JSON.
    Raises InputError for votes without what was shown.
    """
    return [
        _recorded(vote, vote.ranking)
        | {
            "annotator": vote.annotator,
            "id": vote.question,
            "original": vote.original or vote.question,
            "repeat": vote.repeat,
            "shown": [str(one) for one in vote.shown],
            "seconds": vote.seconds,
            "at": vote.at,
            "is_late": vote.is_late,
            "gold": None if vote.gold is None else _as_text(vote.gold).to_json(),
        }
        for vote in votes
    ]


def merged_rows(votes: Sequence[Vote]) -> list[Row]:
    """One row a question, in the same form: the merged ranking of the first votes that are not late."""
    counted = by_question(vote for vote in votes if not vote.is_late)
    return [
        _recorded(of[0], merged([vote.ranking for vote in of])) | {"original": question, "votes": len(of)}
        for question, of in counted.items()
    ]


def lines(rows: Sequence[Row]) -> str:
    """The rows as JSON lines."""
    return "".join(json_text(row) + "\n" for row in rows)


def _pairs(rankings: Sequence[Ranking], best_worst: bool) -> Iterator[tuple[Id, Id, float]]:
    """(better, worse, margin) of the merged ranking."""
    ranking = merged(rankings)
    if ranking.cannot_judge or ranking.all_bad:
        return
    beaten = borda([one for one in rankings if not one.cannot_judge])
    levels = [level for level in (*ranking.tiers, ranking.unranked) if level]
    ends = product(levels[0], levels[-1]) if len(levels) > 1 else ()
    for better, worse in ends if best_worst else ranking.pairs():
        yield better, worse, (beaten[better] - beaten[worse]) / (len(beaten) - 1)


def _trl_row(prompt: str, pair: Sequence[Id], shown: Mapping[Id, Any], *, is_chat: bool) -> Row:
    chosen, rejected = (shown[one] for one in pair)
    if not is_chat:
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def _cells(vote: Vote) -> Iterator[Row]:
    """A row for each candidate, in the order in which they were shown."""
    ranking, better = vote.ranking, 0
    rank: dict[Id, tuple[int, bool]] = {}
    for tier in ranking.tiers:
        rank |= dict.fromkeys(tier, (better + 1, len(tier) > 1))
        better += len(tier)
    for place, one in enumerate(vote.shown, 1):
        given, is_tied = rank.get(one, ("", len(ranking.unranked) > 1 and not ranking.cannot_judge))
        yield {
            "question": vote.question,
            "original": vote.original or vote.question,
            "repeat": vote.repeat,
            "prompt": vote.prompt,
            "annotator": vote.annotator,
            "candidate": one,
            "text": shown_as((vote.candidates or {}).get(one)),
            "place": place,
            "rank": given,
            "is_tied": is_tied,
            "all_bad": ranking.all_bad,
            "cannot_judge": ranking.cannot_judge,
            "seconds": vote.seconds,
            "at": datetime.fromtimestamp(vote.at, UTC).isoformat(timespec="seconds"),
            "is_late": vote.is_late,
            "note": ranking.note,
        }


def _guarded(cell: str) -> str:
    runs = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(FORMULA)
    return f"'{cell}" if runs else cell


def _recorded(vote: Vote, ranking: Ranking) -> Row:
    items = {str(one): value for one, value in _shown(vote).items()}
    if len({json_text(value) for value in items.values()}) < len(items):  # such as a text as code and as Markdown
        items = {one: {"id": one, "text": value} for one, value in items.items()}
    return {"question": vote.prompt, "items": items, "ranking": _as_text(ranking).to_json()}


def _as_text(ranking: Ranking) -> Ranking:
    return ranking.renamed({one: [str(one)] for one in ranking.ids})


def _shown(vote: Vote) -> dict[Id, Any]:
    if vote.candidates is None:
        raise InputError(f"the vote on {vote.question} does not hold what was shown", allowed="votes of a store")
    return vote.candidates
