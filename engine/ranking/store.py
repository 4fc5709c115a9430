"""The ranking store: what is asked, and what was answered, in one database that trainer and form share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from engine.errors import UnknownName
from engine.ranking.database import Database
from engine.ranking.question import Question
from engine.ranking.ranking import Id, Ranking
from engine.ranking.tables import annotators, answers, blobs, candidates, questions
from engine.ranking.vote import Vote


class RankingStore:
    """Questions and answers. What the asking side needs is here; the annotators' side is in `desk`.

    where: a file's path or a database's URL; see `Database` for errors. clock: seconds since the epoch.
    Safe to use from several threads and processes.
    """

    def __init__(self, where: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        self.where, self.clock = str(where), clock
        self.database = Database(where)

    def put(self, question: Question, *, deadline: float | None = None) -> str:
        """Ask the question; its id. One that is there already keeps its answers, and is asked further where it lacks
        some. deadline: until when an answer is of use, in seconds since the epoch, as annotators are told."""
        with self.database.writing() as connection:
            known = connection.execute(select(questions).where(questions.c.id == question.id)).mappings().first()
            if known is None:
                _insert(connection, question, self.clock(), deadline)
            else:
                votes = max(question.votes, known["votes"])
                is_open = counted(connection, question.id) < votes
                change = {"votes": votes, "is_open": is_open, "deadline": deadline}
                connection.execute(update(questions).where(questions.c.id == question.id).values(change))
        return question.id

    def settled(self, question: str, *, for_s: float = 0.0) -> list[Vote] | None:
        """The votes that count, once all that were wanted are there and none is younger than for_s seconds, within
        which it can be taken back; else None. After that they cannot be taken back. Raises UnknownName."""
        with self.database.reading() as connection:
            asked = _row(connection, question)
            found = [vote for vote in _votes(connection, question) if not vote.is_late]
        if len(found) < asked["votes"] or any(self.clock() - vote.at < for_s for vote in found):
            return None
        if asked["taken"] is not None and all(vote.at <= asked["taken"] for vote in found):
            return found
        with self.database.writing() as connection:  # nobody may have taken an answer back in between
            found = [vote for vote in _votes(connection, question) if not vote.is_late]
            if len(found) < asked["votes"]:
                return None
            connection.execute(update(questions).where(questions.c.id == question).values(taken=self.clock()))
        return found

    def withdraw(self, question: str) -> None:
        """Ask it no longer; who has it before them may still answer, late."""
        with self.database.writing() as connection:
            connection.execute(update(questions).where(questions.c.id == question).values(is_open=False))

    def votes(self, question: str | None = None) -> list[Vote]:
        """All votes that were not taken back, of one question or of all, the oldest first."""
        with self.database.reading() as connection:
            return _votes(connection, question)

    def blob(self, sha256: str) -> tuple[str, bytes] | None:
        """The type and the bytes of a picture or sound."""
        with self.database.reading() as connection:
            row = connection.execute(select(blobs).where(blobs.c.sha256 == sha256)).mappings().first()
        return None if row is None else (row["mime"], row["data"])

    def counts(self) -> dict[str, int]:
        """How many questions there are, how many are still asked, and how many answers there are."""
        with self.database.reading() as connection:
            total = connection.execute(select(func.count()).select_from(questions)).scalar_one()
            still = connection.execute(select(func.count()).where(questions.c.is_open)).scalar_one()
            given = connection.execute(select(func.count()).where(answers.c.undone.is_(None))).scalar_one()
        return {"questions": total, "open": still, "answers": given}

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> RankingStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def counted(connection: Connection, question: str) -> int:
    """How many answers the question has of those that were wanted."""
    of = (answers.c.question == question, answers.c.undone.is_(None), ~answers.c.is_late)
    return int(connection.execute(select(func.count()).where(*of)).scalar_one())


def _insert(connection: Connection, question: Question, now: float, deadline: float | None) -> None:
    connection.execute(
        insert(questions).values(
            id=question.id,
            original=question.original,
            repeat=question.repeat,
            prompt=_storable(question.prompt),
            mode=question.mode,
            k=question.k,
            votes=question.votes,
            gold=None if question.gold is None else question.gold.to_json(),
            asked=now,
            deadline=deadline,
            is_open=True,
        )
    )
    rows = [{"question": question.id, "id": one, "shown": shown} for one, shown in question.shown.items()]
    connection.execute(insert(candidates), rows)
    for sha256, media in question.blobs.items():
        if connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256)).first() is None:
            connection.execute(insert(blobs).values(sha256=sha256, mime=media.mime, data=media.data))


def _storable(text: str) -> str:
    """The text without what not every database can hold: half a character of UTF-16, and NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def _row(connection: Connection, question: str) -> RowMapping:
    row = connection.execute(select(questions).where(questions.c.id == question)).mappings().first()
    if row is None:
        raise UnknownName("question", question, [])
    return row


def _votes(connection: Connection, question: str | None) -> list[Vote]:
    chosen = (
        select(answers, annotators.c.name, questions.c.gold, questions.c.repeat, questions.c.original,
               questions.c.prompt)
        .join(annotators, annotators.c.id == answers.c.annotator)
        .join(questions, questions.c.id == answers.c.question)
        .where(answers.c.undone.is_(None))
        .order_by(answers.c.seq)
    )  # fmt: skip
    shown = select(candidates)
    if question is not None:
        chosen, shown = chosen.where(answers.c.question == question), shown.where(candidates.c.question == question)
    of: dict[str, dict[Id, Any]] = {}
    for row in connection.execute(shown).mappings():
        of.setdefault(row["question"], {})[row["id"]] = _plain(row["shown"])
    return [_vote(row, of[row["question"]]) for row in connection.execute(chosen).mappings()]


def _vote(row: RowMapping, shown: dict[Id, Any]) -> Vote:
    return Vote(
        question=row["question"],
        annotator=row["name"],
        ranking=Ranking.from_json(row["ranking"]),
        shown=tuple(row["shown"]),
        at=row["at"],
        seconds=row["seconds"],
        is_late=row["is_late"],
        gold=None if row["gold"] is None else Ranking.from_json(row["gold"]),
        repeat=row["repeat"],
        original=row["original"],
        prompt=row["prompt"],
        candidates=shown,
    )


def _plain(shown: Mapping[str, Any]) -> Any:
    """The text of a candidate; of a picture or a sound what stands for it."""
    if shown["kind"] in ("image", "audio"):
        return {"alt": shown["text"], "mime": shown["mime"], "sha256": shown["sha256"]}
    return shown["text"]
