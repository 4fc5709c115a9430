"""Rankings in a file: what was answered once is answered again, whatever ids the candidates have now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from engine.errors import DataError, InputError
from engine.jsonfiles import JsonLines, Row, json_text, numbered_lines
from engine.ranking.base import Items, Ranker, Ticket, known
from engine.ranking.ranking import Id, Ranking


class RecordedRanker(Ranker):
    """Answers from a file of JSON lines, one a question:

        {"question": "Which is funnier?", "items": {"a": "...", "b": "..."}, "ranking": {"tiers": [["b"], ["a"]]}}

    A question is found by its text and its candidates, in any order and under any ids; candidates that are the
    same are shown once and come out as a tie. Of several answers the last counts. ranker: who is asked what the
    file does not hold; the answer is appended to it. Without one the answer is that nobody can judge.
    Raises DataError with the line for a file that does not hold rankings; `poll` InputError where the ranker answers
    with other ids than those that it was asked with.
    """

    def __init__(self, path: str | Path, ranker: Ranker | None = None) -> None:
        self.path, self.ranker = Path(path), ranker
        if ranker is not None:
            self.poll_s, self.seconds_each = ranker.poll_s, ranker.seconds_each
        if ranker is None and not self.path.is_file():
            raise DataError("there is no file of rankings", place=str(path), next_step="record one, or give a ranker")
        self._recorded: dict[str, tuple[Items, Ranking, float]] = {}
        self._asked: dict[Ticket, tuple[str, Items, Ticket | None]] = {}
        self._open: dict[str, Ticket] = {}  # what the ranker behind was asked, by _key
        for number, row in numbered_lines(self.path):
            self._take(row, f"{self.path}:{number}")

    def ask(self, items: Items, *, question: str = "") -> Ticket:
        """Look the question up; where it is new, ask the ranker behind."""
        key = _key(question, items)
        if self.ranker is not None and key not in self._recorded and key not in self._open:
            self._open[key] = self.ranker.ask(_distinct(items), question=question)
        ticket = str(len(self._asked))
        self._asked[ticket] = (question, dict(items), self._open.get(key))
        return ticket

    def poll(self, ticket: Ticket) -> Ranking | None:
        question, items, behind = known(ticket, self._asked)
        key = _key(question, items)
        if key not in self._recorded and (self.ranker is None or behind is None):
            return Ranking(unranked=tuple(items), cannot_judge=True, note=f"{self.path} holds no such question")
        if key not in self._recorded and not self._record(question, items, behind):
            return None
        shown, ranking, _ = self._recorded[key]
        value_of = {one: json_text(value) for one, value in shown.items()}
        return ranking.renamed(
            {one: [new for new, value in items.items() if json_text(value) == value_of[one]] for one in shown}
        )

    def human_seconds(self, ticket: Ticket) -> float:
        """What the answer took when it was given, whenever that was."""
        question, items, _ = known(ticket, self._asked)
        return self._recorded.get(_key(question, items), (None, None, 0.0))[2]

    def withdraw(self, ticket: Ticket) -> None:
        behind = known(ticket, self._asked)[2]
        if self.ranker is not None and behind is not None:
            self.ranker.withdraw(behind)

    def close(self) -> None:
        if self.ranker is not None:
            self.ranker.close()

    def _record(self, question: str, items: Items, behind: Ticket | None) -> bool:
        """Whether the ranker behind has answered; its answer is then in the file."""
        answer = self.ranker.poll(behind) if self.ranker is not None and behind is not None else None
        if answer is None:
            return False
        shown = _distinct(items)
        if not isinstance(answer, Ranking) or set(answer.ids) != set(shown):
            raise InputError(
                f"the ranker answered {answer!r:.120}",
                allowed=f"a Ranking of the ids {', '.join(map(str, shown))}, which it was shown",
                next_step="let the ranker answer with the ids that it is asked with",
            )
        row: Row = {"question": question, "items": shown, "ranking": answer.to_json()}
        if self.ranker is not None and behind is not None and (seconds := self.ranker.human_seconds(behind)):
            row["human_seconds"] = seconds
        lines = JsonLines(self.path)
        lines.append(row)
        lines.close()
        self._take(row, str(self.path))
        return True

    def _take(self, row: Row, place: str) -> None:
        """Remember a row of the file."""
        items = row.get("items")
        if not isinstance(items, Mapping) or "ranking" not in row:
            raise DataError("no recorded ranking", place=place, allowed="the keys question, items and ranking")
        if len(_distinct(items)) < len(items):
            raise DataError("two of the items are the same", place=place, next_step="give each candidate once")
        ranking = Ranking.from_json(row["ranking"], place=place)
        if set(ranking.ids) != set(items):
            raise DataError(f"the items are {', '.join(items)}, and the ranking names "
                            f"{', '.join(map(str, ranking.ids))}", place=place)  # fmt: skip
        seconds = row.get("human_seconds", 0.0)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise DataError(f"human_seconds is {seconds!r:.40}", place=place, allowed="a number of seconds")
        self._recorded[_key(str(row.get("question", "")), items)] = items, ranking, float(seconds)


def _distinct(items: Items) -> dict[Id, object]:
    """The different candidates under ids of their own, in an order that says nothing of who asked."""
    values = {json_text(value): value for value in items.values()}
    return {str(place): values[text] for place, text in enumerate(sorted(values))}


def _key(question: str, items: Items) -> str:
    """The question and its different candidates, whatever their order and ids."""
    return json_text([question, sorted({json_text(value) for value in items.values()})])
