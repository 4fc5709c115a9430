"""The annotators' side of a ranking store: what lies before them, and what they answer."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, func, insert, select, update

from engine.errors import InputError, UnknownName
from engine.ranking.members import Annotator
from engine.ranking.question import Mode
from engine.ranking.ranking import Ranking
from engine.ranking.store import RankingStore, counted
from engine.ranking.tables import answers, candidates, drafts, leases, questions

LEASE_S = 600.0
LETTERS = "ABCDEFGHI"


@dataclass(frozen=True)
class Assigned:
    """A question as it lies before one annotator: `candidates` as letter -> (id, what is shown), in their own order."""

    question: str
    prompt: str
    mode: Mode
    k: int | None
    candidates: dict[str, tuple[str, dict[str, Any]]]
    entries: dict[str, Any]
    deadline: float | None

    @property
    def letters(self) -> dict[str, str]:
        """candidate id -> its letter."""
        return {one: letter for letter, (one, _) in self.candidates.items()}


@dataclass(frozen=True)
class Progress:
    """How many questions the annotator has answered, how many wait for them, and how long one takes them."""

    answered: int
    waiting: int
    seconds_each: float | None


Receipt = Literal["kept", "late", "again"]
"""kept: it counts. late: kept, and it counts in statistics alone. again: this was answered before, and that stands."""


class Desk:
    """What the form does with a store.

    lease_s: how long a question is kept for the annotator who has it before them, from when they last moved something.
    """

    def __init__(self, store: RankingStore, *, lease_s: float = LEASE_S) -> None:
        self.store, self.lease_s = store, lease_s

    def next(self, annotator: Annotator) -> Assigned | None:
        """What lies before the annotator, from now on kept for them; None where nothing waits for them."""
        now = self.store.clock()
        with self.store.database.writing() as connection:
            row = _held(connection, annotator, now) or _free(connection, annotator, now)
            if row is None:
                return None
            _lease(connection, annotator, row["id"], now, now + self.lease_s)
            return _assigned(connection, annotator, row)

    def peek(self, annotator: Annotator) -> str | None:
        """The id of what `next` would give; nothing is kept for anybody."""
        now = self.store.clock()
        with self.store.database.reading() as connection:
            row = _held(connection, annotator, now) or _free(connection, annotator, now)
        return None if row is None else row["id"]

    def assigned(self, annotator: Annotator, question: str) -> Assigned:
        """A question as the annotator sees it. Raises UnknownName for one that they were never shown."""
        with self.store.database.reading() as connection:
            row = connection.execute(select(questions).where(questions.c.id == question)).mappings().first()
            if row is None or not _was_shown(connection, annotator, question):
                raise UnknownName("question", question, [], next_step="go back to the form's first page")
            return _assigned(connection, annotator, row)

    def save_draft(self, annotator: Annotator, question: str, entries: Mapping[str, Any]) -> bool:
        """Keep what is placed so far, and the question for longer; False where it is not before the annotator."""
        now = self.store.clock()
        with self.store.database.writing() as connection:
            if not _has_lease(connection, annotator, question):
                return False
            _lease(connection, annotator, question, now, now + self.lease_s)
            _set_draft(connection, annotator, question, dict(entries))
        return True

    def submit(self, annotator: Annotator, question: str, form: str, ranking: Ranking) -> Receipt:
        """Keep the answer; when this returns, it is on the disk. form: names the form that sent it, so that what is
        sent twice counts once. Raises UnknownName for a question that the annotator was never shown, and InputError
        for a ranking of other candidates."""
        now = self.store.clock()
        with self.store.database.writing() as connection:
            if _answered(connection, annotator, question, form):
                return "again"
            row = connection.execute(select(questions).where(questions.c.id == question)).mappings().first()
            since = _since(connection, annotator, question)
            if row is None or since is None:
                raise UnknownName("question", question, [], next_step="go back to the form's first page")
            assigned = _assigned(connection, annotator, row)
            shown = list(assigned.letters)
            if set(ranking.ids) != set(shown):
                raise InputError("the ranking is of other candidates", allowed="each candidate of the question once")
            have = counted(connection, question)
            is_late = have >= row["votes"] or not row["is_open"]
            answer = {
                "question": question, "annotator": annotator.id, "form": form, "ranking": ranking.to_json(),
                "shown": shown, "at": now, "seconds": now - since, "is_late": is_late,
            }  # fmt: skip
            connection.execute(insert(answers).values(answer))
            _clear(connection, annotator, question)
            if have + 1 >= row["votes"]:
                connection.execute(update(questions).where(questions.c.id == question).values(is_open=False))
        return "late" if is_late else "kept"

    def undo(self, annotator: Annotator) -> str | None:
        """Take the annotator's last answer back; its question lies before them again, as they had ranked it.
        None where there is none, where it was used already, and where nobody asks any more: it came late, or the
        question was withdrawn since."""
        now = self.store.clock()
        with self.store.database.writing() as connection:
            last = _last(connection, annotator)
            if last is None:
                return None
            question = last["question"]
            connection.execute(update(answers).where(answers.c.seq == last["seq"]).values(undone=now))
            connection.execute(update(questions).where(questions.c.id == question).values(is_open=True))
            # Before what else they have, and of no time: it was seen long ago.
            connection.execute(delete(leases).where(leases.c.annotator == annotator.id))
            _lease(connection, annotator, question, now, now + self.lease_s)
            _set_draft(connection, annotator, question, _entries(Ranking.from_json(last["ranking"])))
        return str(question)

    def can_undo(self, annotator: Annotator) -> bool:
        """Whether `undo` would take something back."""
        with self.store.database.reading() as connection:
            return _last(connection, annotator) is not None

    def progress(self, annotator: Annotator) -> Progress:
        """How far the annotator is; `seconds_each` is the median of their last 20 answers."""
        mine = (answers.c.annotator == annotator.id, answers.c.undone.is_(None))
        last = select(answers.c.seconds).where(*mine).order_by(answers.c.seq.desc()).limit(20)
        waiting = select(func.count()).select_from(_waiting(annotator, self.store.clock()).subquery())
        with self.store.database.reading() as connection:
            seconds = connection.execute(last).scalars().all()
            answered = connection.execute(select(func.count()).where(*mine)).scalar_one()
            return Progress(
                answered,
                int(connection.execute(waiting).scalar_one()),
                statistics.median(seconds) if seconds else None,
            )


def entries_of(places: Mapping[str, int], *, note: str = "", all_bad: bool = False) -> dict[str, Any]:
    """What a draft holds: candidate id -> its place, 1 the best, equal ones tied; the note; whether all are bad."""
    return {"places": dict(places), "note": note, "all_bad": all_bad}


def _entries(ranking: Ranking) -> dict[str, Any]:
    places = {str(one): place for place, tier in enumerate(ranking.tiers, 1) for one in tier}
    return entries_of(places, note=ranking.note, all_bad=ranking.all_bad)


def _mine(annotator: Annotator) -> ColumnElement[bool]:
    """Whether the annotator has answered the question."""
    of = (answers.c.question == questions.c.id, answers.c.annotator == annotator.id, answers.c.undone.is_(None))
    return select(answers.c.seq).where(*of).correlate(questions).exists()


def _waiting(annotator: Annotator, now: float) -> Select[Any]:
    """The open questions that the annotator has not answered and that others do not have all of, the oldest first."""
    given = select(func.count()).where(
        answers.c.question == questions.c.id, answers.c.undone.is_(None), ~answers.c.is_late
    )
    others = select(func.count()).where(
        leases.c.question == questions.c.id, leases.c.annotator != annotator.id, leases.c.expires > now
    )
    counts = [one.correlate(questions).scalar_subquery() for one in (given, others)]
    has_room = counts[0] + counts[1] < questions.c.votes
    return select(questions).where(questions.c.is_open, ~_mine(annotator), has_room).order_by(questions.c.seq)


def _held(connection: Connection, annotator: Annotator, now: float) -> RowMapping | None:
    """What lies before the annotator already, the latest given; if their time is up, while nobody else took it."""
    mine = and_(leases.c.question == questions.c.id, leases.c.annotator == annotator.id)
    chosen = _waiting(annotator, now).join(leases, mine).order_by(None).order_by(leases.c.since.desc())
    return connection.execute(chosen).mappings().first()


def _free(connection: Connection, annotator: Annotator, now: float) -> RowMapping | None:
    return connection.execute(_waiting(annotator, now).limit(1)).mappings().first()


def _lease_of(annotator: Annotator, question: str) -> ColumnElement[bool]:
    return and_(leases.c.annotator == annotator.id, leases.c.question == question)


def _since(connection: Connection, annotator: Annotator, question: str) -> float | None:
    """When the annotator was shown the question; a lease that has expired tells it too."""
    return connection.execute(select(leases.c.since).where(_lease_of(annotator, question))).scalar()


def _has_lease(connection: Connection, annotator: Annotator, question: str) -> bool:
    return _since(connection, annotator, question) is not None


def _was_shown(connection: Connection, annotator: Annotator, question: str) -> bool:
    mine = select(answers.c.seq).where(answers.c.annotator == annotator.id, answers.c.question == question)
    return _has_lease(connection, annotator, question) or connection.execute(mine).first() is not None


def _lease(connection: Connection, annotator: Annotator, question: str, now: float, expires: float) -> None:
    change = update(leases).where(_lease_of(annotator, question)).values(expires=expires)
    if connection.execute(change).rowcount == 0:
        row = {"question": question, "annotator": annotator.id, "since": now, "expires": expires}
        connection.execute(insert(leases).values(row))


def _draft_of(annotator: Annotator, question: str) -> ColumnElement[bool]:
    return and_(drafts.c.annotator == annotator.id, drafts.c.question == question)


def _set_draft(connection: Connection, annotator: Annotator, question: str, entries: dict[str, Any]) -> None:
    connection.execute(delete(drafts).where(_draft_of(annotator, question)))
    connection.execute(insert(drafts).values(question=question, annotator=annotator.id, entries=entries))


def _clear(connection: Connection, annotator: Annotator, question: str) -> None:
    connection.execute(delete(leases).where(_lease_of(annotator, question)))
    connection.execute(delete(drafts).where(_draft_of(annotator, question)))


def _answered(connection: Connection, annotator: Annotator, question: str, form: str) -> bool:
    mine = and_(answers.c.annotator == annotator.id, answers.c.question == question, answers.c.undone.is_(None))
    return connection.execute(select(answers.c.seq).where(mine | (answers.c.form == form))).first() is not None


def _last(connection: Connection, annotator: Annotator) -> RowMapping | None:
    """The annotator's last answer, if it counts, nobody has used it yet, and it is asked or was until it had all."""
    chosen = (
        select(answers, questions.c.taken, questions.c.is_open, questions.c.votes)
        .join(questions, questions.c.id == answers.c.question)
        .where(answers.c.annotator == annotator.id, answers.c.undone.is_(None))
        .order_by(answers.c.seq.desc())
    )
    row = connection.execute(chosen).mappings().first()
    if row is None or row["is_late"]:
        return None
    is_asked = row["is_open"] or counted(connection, row["question"]) >= row["votes"]
    is_used = row["taken"] is not None and row["at"] <= row["taken"]
    return None if is_used or not is_asked else row


def _assigned(connection: Connection, annotator: Annotator, row: RowMapping) -> Assigned:
    """The question in the annotator's own order, which its id and theirs determine: a refresh changes nothing."""
    found = connection.execute(
        select(candidates.c.id, candidates.c.shown).where(candidates.c.question == row["id"]).order_by(candidates.c.id)
    ).all()
    order = [(one, shown) for one, shown in found]
    random.Random(f"{row['id']}/{annotator.id}").shuffle(order)
    entries = connection.execute(select(drafts.c.entries).where(_draft_of(annotator, row["id"]))).scalar()
    letters = dict(zip(LETTERS, order, strict=False))
    return Assigned(
        row["id"], row["prompt"], row["mode"], row["k"], letters, entries or entries_of({}), row["deadline"]
    )
