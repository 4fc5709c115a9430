"""Facts of rankers: a program, a recorded file, and answers that come late or never."""

import json

import pytest

from engine.errors import DataError, InputError, Stopped, UnknownName
from engine.ranking import FallbackRanker, ProgramRanker, Ranker, Ranking, RecordedRanker

LONGEST = ProgramRanker(lambda items, question: {one: len(text) for one, text in items.items()})


class Slow(Ranker):
    """Answers at the third look; not at all where the question says so."""

    poll_s = 0.001

    def __init__(self):
        self.looks, self.items = {}, {}

    def ask(self, items, *, question=""):
        ticket = question or str(len(self.items))
        self.items[ticket] = items
        return ticket

    def poll(self, ticket):
        self.looks[ticket] = self.looks.get(ticket, 0) + 1
        is_there = ticket != "never" and self.looks[ticket] >= 3
        return Ranking.by_score({one: 0.0 for one in self.items[ticket]}) if is_there else None


def test_a_program_ranks_by_score_or_by_tiers():
    assert LONGEST.gather([LONGEST.ask({"a": "x", "b": "xxx", "c": "y"})]) == [Ranking([["b"], ["a", "c"]])]
    said = ProgramRanker(lambda items, question: Ranking([[question]], [one for one in items if one != question]))
    tickets = [said.ask({"a": 1, "b": 2}, question=best) for best in "ab"]
    assert said.gather([*tickets[::-1], tickets[0]]) == [
        Ranking([["b"]], ["a"]), Ranking([["a"]], ["b"]), Ranking([["a"]], ["b"]),
    ]  # fmt: skip


@pytest.mark.parametrize("answer", [{"a": 1.0}, Ranking([["a"]]), ["a", "b"], None, Ranking([["a", "b", "c"]])])
def test_a_program_must_name_what_it_was_shown(answer):
    with pytest.raises(InputError, match="a, b"):
        ProgramRanker(lambda items, question: answer).ask({"a": 1, "b": 2})


def test_gather_waits_and_an_absent_answer_is_none_or_an_error():
    slow = Slow()
    tickets = [slow.ask({"a": 1}), slow.ask({"b": 1}, question="never")]
    assert slow.gather(tickets[:1]) == [Ranking([["a"]])]
    assert slow.gather(tickets, deadline_s=0.02) == [Ranking([["a"]]), None]
    with pytest.raises(Stopped, match="1 of 2 rankings"):
        slow.gather(tickets, deadline_s=0.0, on_absent="stop")


def test_gather_waits_beyond_the_deadline_where_it_shall_and_until_somebody_wants_it_to_end():
    slow = Slow()
    assert slow.gather([slow.ask({"a": 1})], deadline_s=0.0, on_absent="wait") == [Ranking([["a"]])]
    looks = iter(range(5))
    with pytest.raises(StopIteration):
        slow.gather([slow.ask({"a": 1}, question="never")], check=lambda: next(looks))
    assert slow.looks["never"] == 6  # one before each of five checks, and the one before the last


class Silent(Ranker):
    """Answers when it is told to, and hears what is withdrawn."""

    def __init__(self):
        self.asked, self.answers, self.withdrawn = [], {}, []

    def ask(self, items, *, question=""):
        self.asked.append((dict(items), question))
        return str(len(self.asked) - 1)

    def poll(self, ticket):
        return self.answers.get(ticket)

    def withdraw(self, ticket):
        self.withdrawn.append(ticket)


def test_a_fallback_is_asked_only_what_is_not_answered_in_time():
    now, first, then = [0.0], Silent(), Silent()
    ranker = FallbackRanker(first, then, deadline_s=10, clock=lambda: now[0])
    soon, late, never = (ranker.ask({"a": 1, "b": 2}, question=name) for name in ("soon", "late", "never"))
    first.answers[soon] = Ranking([["a"], ["b"]])
    assert [ranker.poll(ticket) for ticket in (soon, late)] == [Ranking([["a"], ["b"]]), None]
    now[0] = 10.0
    assert [ranker.poll(ticket) for ticket in (late, never)] == [None, None]
    assert then.asked == [({"a": 1, "b": 2}, "late"), ({"a": 1, "b": 2}, "never")]
    first.answers["1"] = Ranking([["b"], ["a"]])  # the first one answers after all
    then.answers["1"] = Ranking([["a", "b"]])
    assert [ranker.poll(ticket) for ticket in (late, never)] == [Ranking([["b"], ["a"]]), Ranking([["a", "b"]])]
    assert (then.withdrawn, first.withdrawn) == (["0"], ["2"])


@pytest.mark.parametrize("make", [lambda path: LONGEST, lambda path: RecordedRanker(path, LONGEST)])
def test_a_ticket_of_another_is_refused(tmp_path, make):
    with pytest.raises(UnknownName, match="ticket"):
        make(tmp_path / "votes.jsonl").poll("x")


def test_what_was_answered_once_is_answered_again_under_other_ids(tmp_path):
    path = tmp_path / "votes.jsonl"
    first = RecordedRanker(path, LONGEST)
    assert first.gather([first.ask({7: "long", 3: "a"}, question="longest?")]) == [Ranking([[7], [3]])]
    again = RecordedRanker(path)
    tickets = [again.ask({"p": "a", "q": "long", "r": "a"}, question="longest?"), again.ask({1: "a", 2: "long"})]
    known, unknown = again.gather(tickets)
    assert known == Ranking([["q"], ["p", "r"]])
    assert unknown.cannot_judge and unknown.ids == (1, 2)
    assert len(path.read_text().splitlines()) == 1


def test_a_question_that_is_open_is_not_asked_again(tmp_path):
    behind = Slow()
    ranker = RecordedRanker(tmp_path / "votes.jsonl", behind)
    tickets = [ranker.ask({1: "x", 2: "y"}, question="?"), ranker.ask({"a": "y", "b": "x"}, question="?")]
    assert ranker.gather(tickets) == [Ranking([[1, 2]]), Ranking([["b", "a"]])]
    assert len(behind.items) == 1


def test_late_answers_are_recorded_when_they_come(tmp_path):
    ranker = RecordedRanker(tmp_path / "votes.jsonl", Slow())
    ticket = ranker.ask({"x": "same", "y": "same"})
    assert [ranker.poll(ticket) for _ in range(3)] == [None, None, Ranking([["x", "y"]])]
    [row] = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert row["items"] == {"0": "same"}


@pytest.mark.parametrize("answer", [Ranking([["0"]]), Ranking([["0", "1", "x"]]), {"0": 1.0, "1": 2.0}])
def test_an_answer_of_other_ids_is_refused_and_not_recorded(tmp_path, answer):
    behind = Slow()
    behind.poll = lambda ticket: answer
    ranker = RecordedRanker(tmp_path / "votes.jsonl", behind)
    with pytest.raises(InputError, match="the ranker answered"):
        ranker.gather([ranker.ask({"a": "x", "b": "y"})])
    RecordedRanker(tmp_path / "votes.jsonl", LONGEST)  # the file can still be read


GOOD = {"question": "?", "items": {"a": "x", "b": "y"}, "ranking": {"tiers": [["a"], ["b"]]}}


@pytest.mark.parametrize(
    "change",
    [
        {"items": None},
        {"items": {"a": "x"}},
        {"items": {"a": "x", "b": "x"}},
        {"ranking": {"tiers": [["a"], ["a"]]}},
        {"ranking": None},
    ],
)
def test_a_line_that_holds_no_ranking_is_named(tmp_path, change):
    path = tmp_path / "votes.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD | change)}\n")  # blank lines count
    with pytest.raises(DataError, match=r"votes\.jsonl:3"):
        RecordedRanker(path)


def test_a_file_that_is_not_there_is_an_error_unless_it_is_to_be_written(tmp_path):
    with pytest.raises(DataError, match="no file of rankings"):
        RecordedRanker(tmp_path / "votes.jsonl")
    RecordedRanker(tmp_path / "votes.jsonl", LONGEST)
