"""Facts of leases, drafts, answers and undo: what lies before whom, and that nothing said is lost."""

import subprocess
import sys
from collections import Counter

import pytest

from engine.errors import InputError, UnknownName
from engine.ranking import Ranking, RankingStore
from engine.ranking.desk import Desk, entries_of
from engine.ranking.members import Members
from engine.ranking.question import Question


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(where, clock):
    with RankingStore(where, clock=clock) as store:
        yield store


@pytest.fixture
def desk(store):
    return Desk(store, lease_s=600)


@pytest.fixture
def people(store):
    members = Members(store)
    return [members.sign_in(members.invite(name))[0] for name in ("ann", "bob", "cat", "dan")]


def asked(store, name="q", *, candidates=("a", "b", "c"), **more):
    return store.put(Question(name, tuple(f"{name} {one}" for one in candidates), **more))


def answer(desk, who, form=None, *, note=""):
    """Answers what lies before them as they see it, the first letter best; the receipt."""
    assigned = desk.next(who)
    ids = [one for one, _ in assigned.candidates.values()]
    form = form or f"{assigned.question}-{who.name}"
    return desk.submit(who, assigned.question, form, Ranking([[one] for one in ids], note=note))


def test_a_question_lies_before_one_annotator_until_the_lease_ends(store, desk, people, clock):
    ann, bob = people[:2]
    question = asked(store)
    assert desk.next(ann).question == desk.next(ann).question == question
    assert desk.next(bob) is None and desk.peek(bob) is None
    clock.now += 599
    desk.save_draft(ann, question, entries_of({}))  # who moves something keeps it
    clock.now += 599
    assert desk.next(bob) is None
    clock.now += 2
    assert desk.next(bob).question == question


def test_whose_time_is_up_keeps_the_question_while_nobody_else_has_it(store, desk, people, clock):
    ann, bob = people[:2]
    first, second = asked(store, "first"), asked(store, "second")
    assert desk.next(bob).question == first
    assert desk.next(ann).question == second
    clock.now += 10_000
    assert desk.next(ann).question == second  # not the first, which is free as well


def test_a_late_answer_is_kept_and_does_not_count(store, desk, people, clock):
    ann, bob = people[:2]
    question = asked(store)
    late = desk.next(ann)
    clock.now += 601
    assert answer(desk, bob) == "kept"
    ids = [one for one, _ in late.candidates.values()]
    assert desk.submit(ann, question, "late", Ranking([ids])) == "late"
    assert [(vote.annotator, vote.is_late) for vote in store.votes()] == [("bob", False), ("ann", True)]
    assert [vote.annotator for vote in store.settled(question)] == ["bob"]
    assert desk.undo(ann) is None and len(store.votes()) == 2  # nobody would be asked again


def test_an_answer_after_the_lease_counts_where_one_is_still_wanted(store, desk, people, clock):
    ann, bob = people[:2]
    question = asked(store)
    mine = desk.next(ann)
    clock.now += 601
    assert desk.next(bob).question == question
    ids = [one for one, _ in mine.candidates.values()]
    assert desk.submit(ann, question, "after", Ranking([ids])) == "kept"
    assert desk.next(bob) is None  # it has all that were wanted


def test_an_answer_after_it_was_withdrawn_is_kept_as_late(store, desk, people):
    question = asked(store)
    assigned = desk.next(people[0])
    store.withdraw(question)
    ids = [one for one, _ in assigned.candidates.values()]
    assert desk.submit(people[0], question, "form", Ranking([ids])) == "late"
    assert desk.next(people[1]) is None


def test_sent_twice_counts_once_and_the_first_answer_stands(store, desk, people):
    ann = people[0]
    question = asked(store)
    ids = [one for one, _ in desk.next(ann).candidates.values()]
    assert desk.submit(ann, question, "form", Ranking([[ids[0]], ids[1:]])) == "kept"
    assert desk.submit(ann, question, "form", Ranking([[ids[0]], ids[1:]])) == "again"
    assert desk.submit(ann, question, "another window", Ranking([ids])) == "again"
    [vote] = store.votes()
    assert vote.ranking == Ranking([[ids[0]], ids[1:]])


def test_everyone_has_an_order_of_their_own_and_answers_by_content(store, desk):
    members = Members(store)
    many = [members.sign_in(members.invite(f"one {i}"))[0] for i in range(40)]
    asked(store, votes=40)
    tops = Counter()
    for who in many:
        assigned = desk.next(who)
        assert desk.next(who).candidates == assigned.candidates  # a refresh changes nothing
        tops[assigned.candidates["A"][1]["text"]] += 1
        best = next(one for one, shown in assigned.candidates.values() if shown["text"] == "q b")
        rest = [one for one, _ in assigned.candidates.values() if one != best]
        desk.submit(who, assigned.question, f"form {who.id}", Ranking([[best]], rest))
    assert min(tops[f"q {one}"] for one in "abc") >= 5  # 40/3 each, on average
    votes = store.votes()
    assert {vote.candidates[vote.ranking.tiers[0][0]] for vote in votes} == {"q b"}
    assert len({vote.shown for vote in votes}) == 6  # all orders of three


def test_undo_brings_the_question_back_as_it_was_ranked(store, desk, people):
    ann = people[0]
    question = asked(store)
    answer(desk, ann, note="hm")
    given = store.votes()[0].ranking
    asked(store, "another")
    assert desk.can_undo(ann) and desk.undo(ann) == question
    assert store.votes() == [] and store.settled(question) is None
    again = desk.next(ann)
    assert again.question == question and again.entries["note"] == "hm"
    assert again.entries["places"] == {tier[0]: place for place, tier in enumerate(given.tiers, 1)}
    assert answer(desk, ann, "second form") == "kept"
    assert len(store.votes()) == 1


def test_an_answer_that_was_used_cannot_be_taken_back(store, desk, people, clock):
    ann = people[0]
    question = asked(store)
    answer(desk, ann)
    assert store.settled(question, for_s=2) is None  # within two seconds it may be
    clock.now += 2
    assert len(store.settled(question, for_s=2)) == 1
    assert not desk.can_undo(ann) and desk.undo(ann) is None
    assert len(store.votes()) == 1


def test_a_draft_is_there_after_the_store_was_opened_again(store, desk, people, where):
    ann = people[0]
    question = asked(store)
    one = desk.next(ann).candidates["A"][0]
    assert desk.save_draft(ann, question, entries_of({one: 1}, note="so far", all_bad=True))
    with RankingStore(where, clock=store.clock) as again:
        assert Desk(again).next(ann).entries == {"places": {one: 1}, "note": "so far", "all_bad": True}


def test_only_what_was_shown_can_be_seen_or_answered_and_only_its_candidates(store, desk, people):
    ann, bob = people[:2]
    question = asked(store)
    for refused in (lambda: desk.assigned(bob, question), lambda: desk.submit(bob, question, "f", Ranking([["x"]]))):
        with pytest.raises(UnknownName, match="question"):
            refused()
    assert not desk.save_draft(bob, question, entries_of({}))
    desk.next(ann)
    with pytest.raises(InputError, match="other candidates"):
        desk.submit(ann, question, "f", Ranking([["x"]]))
    assert store.votes() == []


def test_progress_counts_what_waits_and_takes_the_median_of_the_last_answers(store, desk, people, clock):
    ann, bob = people[:2]
    for number in range(5):
        asked(store, f"question {number}")
    desk.next(bob)
    for seconds in (10, 40, 20):
        desk.next(ann)
        clock.now += seconds
        answer(desk, ann)
    found = desk.progress(ann)
    assert (found.answered, found.waiting, found.seconds_each) == (3, 1, 20)


def test_an_answer_to_what_was_withdrawn_stays(store, desk, people):
    """Taken back it would be asked of everyone again, and nobody waits for it."""
    ann, bob = people[:2]
    question = asked(store, votes=2)
    answer(desk, ann)
    assert desk.can_undo(ann)
    store.withdraw(question)
    assert not desk.can_undo(ann) and desk.undo(ann) is None
    assert len(store.votes()) == 1 and desk.next(bob) is None and store.counts()["open"] == 0


def test_an_old_draft_does_not_come_back_after_the_answer(store, desk, people):
    ann = people[0]
    question = asked(store)
    answer(desk, ann)
    assert not desk.save_draft(ann, question, entries_of({}, note="old"))
    desk.undo(ann)
    assert desk.next(ann).entries["note"] == ""


RACER = """
import sys, threading
from engine.ranking import Ranking, RankingStore
from engine.ranking.desk import Desk
from engine.ranking.members import Members

where, window, *secrets = sys.argv[1:]
faults = []
with RankingStore(where) as store:
    desk = Desk(store, lease_s=0.01)  # leases that end at once make them collide

    def work(who, window):
        try:
            while (assigned := desk.next(who)) is not None:
                ids = [one for one, _ in assigned.candidates.values()]
                desk.submit(who, assigned.question, f"{assigned.question}/{who.id}/{window}", Ranking([ids]))
        except Exception as error:
            faults.append(error)

    who = [Members(store).signed_in(secret) for secret in secrets]
    threads = [threading.Thread(target=work, args=(one, f"{window}{i}")) for one in who for i in range(2)]
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
sys.exit(repr(faults) if faults else 0)
"""


def test_exactly_the_wanted_number_of_answers_under_threads_and_processes(where):
    """Eight annotators, each with two windows in each of two processes: of 30 questions, of three answers each, 90
    count, from 90 different pairs."""
    with RankingStore(where) as store:
        members = Members(store)
        secrets = [members.sign_in(members.invite(f"one {i}"))[1] for i in range(8)]
        for number in range(30):
            asked(store, f"question {number}", votes=3)
        racers = [
            subprocess.Popen([sys.executable, "-c", RACER, where, window, *secrets], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for window in "ab"
        ]  # fmt: skip
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        assert [racer.communicate(timeout=60)[1] for racer in racers] == ["", ""]
        votes = store.votes()
        assert store.counts()["open"] == 0
    count = Counter(vote.question for vote in votes if not vote.is_late)
    assert sorted(count.values()) == [3] * 30
    assert len({(vote.question, vote.annotator) for vote in votes}) == len(votes)
