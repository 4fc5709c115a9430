"""The form's server is there whenever a question waits: whoever started it, and whoever killed it."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select

from engine.ranking import FormRanker, Ranking
from engine.ranking.desk import Desk
from engine.ranking.members import Members
from engine.ranking.store import RankingStore
from engine.ranking.tables import servers


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RankingStore]:
    with RankingStore(tmp_path / "rankings.sqlite") as opened:
        yield opened


def pid(store: RankingStore) -> int:
    with store.database.reading() as connection:
        return int(connection.execute(select(servers.c.pid)).scalar_one())


def answers(link: str) -> bool:
    with urllib.request.urlopen(re.sub("/join/.*", "/health", link.split(" at ")[1])) as page:
        return bool(page.read() == b"ok\n")


def test_a_server_that_is_killed_while_an_answer_is_awaited_is_replaced(store: RankingStore) -> None:
    told: list[str] = []
    ranker = FormRanker(store.where, settle_s=0, port=0, tell=told.append)
    try:
        ticket = ranker.ask({1: "sand", 2: "dusk"})
        killed = pid(store)
        os.kill(killed, signal.SIGKILL)
        until = time.monotonic() + 10
        while len(told) < 3 and time.monotonic() < until:
            assert ranker.poll(ticket) is None
            time.sleep(0.05)
        assert [line.split(" at http")[0] for line in told] == [
            "annotator ranks", "the form's server has ended (-9)", "annotator ranks",
        ]  # fmt: skip
        assert pid(store) != killed and answers(told[-1])
    finally:
        ranker.close()
    with store.database.reading() as connection:
        assert connection.execute(select(servers.c.pid)).all() == []


def test_so_is_one_that_somebody_else_started(store: RankingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the process that this one goes on for, which was killed."""
    monkeypatch.setattr("engine.ranking.form.LOOK_S", 0.0)
    theirs = {"url": "http://127.0.0.1:1", "pid": 1, "beat": time.time() + 1000}
    with store.database.writing() as connection:
        connection.execute(insert(servers).values(theirs))
    told: list[str] = []
    ranker = FormRanker(store.where, settle_s=0, port=0, tell=told.append)
    try:
        ticket = ranker.ask({1: "sand", 2: "dusk"})
        assert ranker.poll(ticket) is None
        assert len(told) == 1 and "http://127.0.0.1:1/join/" in told[0]
        with store.database.writing() as connection:
            connection.execute(delete(servers))
        assert ranker.poll(ticket) is None
        assert len(told) == 2 and answers(told[1])
    finally:
        ranker.close()


def test_what_was_answered_while_the_asking_process_was_away_is_found(store: RankingStore) -> None:
    items = {"a": "sand", "b": "dusk", "c": "sand"}
    first = FormRanker(store.where, settle_s=0, is_served=False)
    first.ask(items, question="Which?")
    first.close()
    annotator = Members(store).sign_in(Members(store).invite("Maria"))[0]
    desk = Desk(store)
    assigned = desk.next(annotator)
    best = next(one for one, shown in assigned.candidates.values() if shown["text"] == "dusk")
    [rest] = [one for one, _ in assigned.candidates.values() if one != best]
    desk.submit(annotator, assigned.question, "form 1", Ranking([[best], [rest]]))
    again = FormRanker(store.where, settle_s=0, is_served=False)
    ticket = again.ask(dict(reversed(items.items())), question="Which?")
    found = again.poll(ticket)
    assert found is not None and [sorted(tier) for tier in found.tiers] == [["b"], ["a", "c"]]
    assert store.counts() == {"questions": 1, "open": 0, "answers": 1}
    again.close()
