"""People as a ranker: ids and ties, several votes, servers that are found, and askers that are killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from urllib.request import urlopen

import pytest
from sqlalchemy import delete, insert, select

from engine.errors import EnvironmentMissing, InputError, UnknownName
from engine.ranking import FormRanker, Ranking, RankingStore, RecordedRanker
from engine.ranking.desk import Desk
from engine.ranking.members import Members
from engine.ranking.tables import servers
from engine.ranking.web.server import PORT, running


@pytest.fixture
def where(tmp_path):
    return tmp_path / "rankings.sqlite"


@pytest.fixture
def ranker(where):
    ranker = FormRanker(where, settle_s=0, is_served=False)
    yield ranker
    ranker.close()


def sign_in(store, name="ann"):
    members = Members(store)
    return members.sign_in(members.invite(name))[0]


def rank(store, who, texts):
    """Ranks what lies before them as the texts stand, a list for a tie; what is not named is unranked."""
    desk = Desk(store)
    assigned = desk.next(who)
    of = {shown["text"]: one for one, shown in assigned.candidates.values()}
    tiers = [[of.pop(text) for text in ([tier] if isinstance(tier, str) else tier)] for tier in texts]
    desk.submit(who, assigned.question, f"{assigned.question} {who.name}", Ranking(tiers, list(of.values())))
    return assigned


def server_pid(store):
    with store.database.reading() as connection:
        return int(connection.execute(select(servers.c.pid)).scalar_one())


def answers(link):
    with urlopen(re.sub("/join/.*", "/health", link.split(" at ")[1])) as page:
        return bool(page.read() == b"ok\n")


def test_an_answer_comes_under_the_ids_that_were_asked_and_the_same_text_is_a_tie(ranker):
    ticket = ranker.ask({"x": "a", "y": "b", "z": "a", 4: "c"}, question="Which?")
    assert ranker.poll(ticket) is None
    assigned = rank(ranker.store, sign_in(ranker.store), ["b", "a"])
    assert (assigned.prompt, assigned.mode, len(assigned.candidates)) == ("Which?", "full", 3)
    assert ranker.gather([ticket]) == [Ranking([["y"], ["x", "z"]], [4])]
    with pytest.raises(UnknownName):
        ranker.poll("other")


def test_the_form_follows_from_how_many_are_to_be_put_in_order(where):
    ranker = FormRanker(where, k=3, is_served=False)
    desk, who = Desk(ranker.store), sign_in(ranker.store)
    for texts, mode, k in (("abcde", "top", 3), ("ab", "pair", None), ("abc", "full", None)):
        ranker.ask(dict(enumerate(texts)), question=texts)
        assigned = desk.next(who)
        assert (assigned.mode, assigned.k) == (mode, k)
        desk.submit(who, assigned.question, texts, Ranking([[one for one, _ in assigned.candidates.values()]]))
    with pytest.raises(InputError, match="10 different candidates in one question to people"):
        ranker.ask(dict(enumerate("abcdefghij")))
    ranker.close()


def test_several_annotators_are_merged_by_bordas_count(where):
    """a beats b twice of three, both beat c: Borda 5 + 2, 4 + 0: a, b, c."""
    ranker = FormRanker(where, votes=3, settle_s=0, is_served=False)
    ticket = ranker.ask({1: "a", 2: "b", 3: "c"})
    for name, order in (("ann", "abc"), ("bob", "abc"), ("cat", "bac")):
        assert ranker.poll(ticket) is None
        rank(ranker.store, sign_in(ranker.store, name), order)
    assert ranker.poll(ticket) == Ranking([[1], [2], [3]])
    ranker.close()


def test_an_answer_is_used_once_it_can_no_longer_be_taken_back(where):
    ranker = FormRanker(where, settle_s=0.4, is_served=False)
    ticket, who = ranker.ask({1: "a", 2: "b"}), sign_in(ranker.store)
    rank(ranker.store, who, "ab")
    assert ranker.poll(ticket) is None
    assert Desk(ranker.store).undo(who) == ticket
    rank_again = Desk(ranker.store).next(who)
    ids = [one for one, _ in rank_again.candidates.values()]
    Desk(ranker.store).submit(who, ticket, "again", Ranking([ids]))
    assert ranker.gather([ticket], deadline_s=5) == [Ranking([[1, 2]])]
    ranker.close()


def test_what_is_withdrawn_is_shown_no_longer(ranker):
    ticket = ranker.ask({1: "a", 2: "b"})
    ranker.withdraw(ticket)
    assert Desk(ranker.store).next(sign_in(ranker.store)) is None


def test_what_people_said_can_be_recorded_and_repeated(ranker, tmp_path):
    recorded = RecordedRanker(tmp_path / "votes.jsonl", ranker)
    ticket = recorded.ask({1: "a", 2: "b"}, question="q")
    rank(ranker.store, sign_in(ranker.store), "ba")
    assert recorded.gather([ticket]) == [Ranking([[2], [1]])]
    again = RecordedRanker(tmp_path / "votes.jsonl")
    assert again.gather([again.ask({"x": "b", "y": "a"}, question="q")]) == [Ranking([["x"], ["y"]])]


ASKER = """
import sys, time
from engine.ranking import FormRanker
ranker = FormRanker(sys.argv[1], settle_s=0, annotators=["ann"], port=0, tell=lambda line: print(line, flush=True))
[answer] = ranker.gather([ranker.ask({"x": "a", "y": "b"}, question="q")])
print([list(tier) for tier in answer.tiers], flush=True)
ranker.close()
"""


def asker(where):
    return subprocess.Popen([sys.executable, "-c", ASKER, str(where)], stdout=subprocess.PIPE, text=True)


def test_who_asks_may_be_killed_and_finds_the_answer_and_the_form_afterwards(where):
    first = asker(where)
    link = first.stdout.readline()
    first.kill()
    first.communicate()
    with RankingStore(where) as store:
        url = running(store)
        assert link.startswith(f"ann ranks at {url}/join/")
        rank(store, sign_in(store), "ba")
        second = asker(where)
        said, _ = second.communicate(timeout=30)
        assert said.splitlines()[0].startswith(f"ann ranks at {url}/join/")  # the form that the first one started
        assert said.splitlines()[1] == "[['y'], ['x']]"
        assert running(store) == url
        os.kill(server_pid(store), signal.SIGTERM)
        end = time.monotonic() + 10
        while running(store) and time.monotonic() < end:
            time.sleep(0.05)
        assert running(store) is None


def test_a_form_ends_with_who_started_it_and_is_found_until_then(where):
    lines = []
    ranker = FormRanker(where, annotators=["ann", "bob"], port=0, tell=lines.append)
    ranker.ask({1: "a", 2: "b"})
    other = FormRanker(where, annotators=["cat"], port=0, tell=lines.append)
    other.ask({1: "a", 2: "c"})
    assert [line.split(" ranks at ")[0] for line in lines] == ["ann", "bob", "cat"]
    assert len({line.split("/join/")[0].split(" at ")[1] for line in lines}) == 1
    other.close()
    assert running(ranker.store) is not None
    ranker.close()
    with RankingStore(where) as store:
        assert running(store) is None


def test_another_port_serves_where_the_usual_one_is_taken_and_a_port_that_was_asked_for_is_insisted_on(where):
    lines = []
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as good
            taken.bind(("127.0.0.1", PORT))
            taken.listen()
        ranker = FormRanker(where, annotators=["ann"], tell=lines.append)
        ranker.ask({1: "a", 2: "b"})
        [line] = lines
        url = line.removeprefix("ann ranks at ").partition("/join/")[0]
        assert url != f"http://127.0.0.1:{PORT}"
        with urlopen(f"{url}/health") as page:
            assert page.read() == b"ok\n"
        ranker.close()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{url}/health")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        ranker = FormRanker(where, port=taken.getsockname()[1], tell=lines.append)
        with pytest.raises(EnvironmentMissing, match=r"exit 3"):
            ranker.ask({1: "a", 2: "c"})
        ranker.close()


def test_another_process_that_asks_the_same_finds_what_was_answered_in_whatever_order_it_asks(where):
    first = FormRanker(where, settle_s=0, is_served=False)
    ticket = first.ask({"x": "a", "y": "b", "z": "c"}, question="q")
    assert first.gather([ticket], deadline_s=0.1, on_absent="skip") == [None]
    first.close()
    with RankingStore(where) as store:
        again = FormRanker(where, settle_s=0, is_served=False)
        assert again.ask({3: "c", 2: "b", 1: "a"}, question="q") == ticket
        rank(store, sign_in(store), [["c", "a"], "b"])
        [found] = again.gather([ticket])
        assert [set(tier) for tier in found.tiers] == [{3, 1}, {2}]
        again.close()


def test_a_server_that_is_killed_while_an_answer_is_awaited_is_replaced(where):
    told, store = [], RankingStore(where)
    ranker = FormRanker(where, settle_s=0, port=0, tell=told.append)
    try:
        ticket = ranker.ask({1: "sand", 2: "dusk"})
        killed = server_pid(store)
        os.kill(killed, signal.SIGKILL)
        until = time.monotonic() + 10
        while len(told) < 3 and time.monotonic() < until:
            assert ranker.poll(ticket) is None
            time.sleep(0.05)
        assert [line.split(" at http")[0] for line in told] == [
            "annotator ranks", "the form's server has ended (-9)", "annotator ranks",
        ]  # fmt: skip
        assert server_pid(store) != killed and answers(told[-1])
    finally:
        ranker.close()
    with store, store.database.reading() as connection:
        assert connection.execute(select(servers.c.pid)).all() == []


def test_so_is_one_that_somebody_else_started(where, monkeypatch):
    """Such as the process that this one goes on for, which was killed."""
    monkeypatch.setattr("engine.ranking.form.LOOK_S", 0.0)
    told, store = [], RankingStore(where)
    theirs = {"url": "http://127.0.0.1:1", "pid": 1, "beat": time.time() + 1000}
    with store.database.writing() as connection:
        connection.execute(insert(servers).values(theirs))
    ranker = FormRanker(where, settle_s=0, port=0, tell=told.append)
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
        store.close()


def test_the_time_of_an_answer_is_from_its_first_sight_and_ends_when_nobody_can_still_be_there(ranker):
    now = [1000.0]
    ranker.store.clock = lambda: now[0]
    first, second = ranker.ask({1: "a", 2: "b"}, question="one"), ranker.ask({1: "c", 2: "d"}, question="two")
    who, took = sign_in(ranker.store), {first: 12.0, second: 7200.0}
    assert ranker.human_seconds(first) == 0
    for _ in took:
        desk = Desk(ranker.store)
        assigned = desk.next(who)
        now[0] += took[assigned.question]
        desk.submit(
            who, assigned.question, assigned.question, Ranking([[one] for one, _ in assigned.candidates.values()])
        )
    assert ranker.human_seconds(first) == 12 and ranker.human_seconds(second) == 600
    assert FormRanker(ranker.where, votes=3).seconds_each == 60
