"""Votes as files: what TRL, a spreadsheet and a recorded ranker read in them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from engine.errors import InputError
from engine.jsonfiles import write_text
from engine.ranking import Ranking, RecordedRanker
from engine.ranking.export import COLUMNS, csv_text, lines, merged_rows, trl_rows, vote_rows
from tests.engine.ranking.voting import vote


def pairs(rows):
    return [(row["chosen"][-1], row["rejected"][-1]) for row in rows]


def test_every_pair_of_the_merged_ranking_is_a_row():
    """a is before b twice of three, both before c: a > b > c."""
    votes = [vote("q", "ann", "abc"), vote("q", "bob", "bac"), vote("q", "cem", "abc")]
    [rows] = trl_rows(votes).values()
    assert rows[0] == {"prompt": "prompt of q", "chosen": "text of a", "rejected": "text of b"}
    assert pairs(rows) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs(trl_rows(votes, best_worst=True)["q"]) == [("a", "c")]


def test_the_margin_is_the_difference_in_the_share_of_others_beaten():
    """a beats 5/3 of the 2 others in the mean, b 4/3, c none."""
    votes = [vote("q", "ann", "abc"), vote("q", "bob", "bac"), vote("q", "cem", "abc")]
    margins = [row["margin"] for row in trl_rows(votes, has_margin=True)["q"]]
    assert margins == pytest.approx([1 / 6, 5 / 6, 4 / 6])


def test_what_gives_no_pair():
    tie = [vote("tie", "ann", "ab"), vote("tie", "bob", "ba")]
    bad = [vote("bad", "ann", "ab", all_bad=True)]
    none = [vote("none", "ann", "cannot", "ab")]
    late = [vote("late", "ann", "ab", is_late=True)]
    image = {"alt": "a cat", "mime": "image/png", "sha256": "0" * 64}
    media = [vote("media", "ann", "abc", candidates={"a": image, "b": "x", "c": "y"})]
    again = [vote("q", "ann", "ab"), vote("r", "ann", "ba", original="q", repeat=1)]
    found = trl_rows([*tie, *bad, *none, *late, *media, *again])
    assert {question: len(rows) for question, rows in found.items()} == {
        "tie": 0, "bad": 0, "none": 0, "media": 1, "q": 1}  # fmt: skip
    assert pairs(found["q"]) == [("a", "b")]
    with pytest.raises(InputError, match="does not hold what was shown"):
        trl_rows([vote("q", "ann", "ab", candidates=None)])


@pytest.mark.parametrize("is_chat", [False, True])
def test_trl_reads_the_rows(is_chat):
    data_utils = pytest.importorskip("trl.data_utils")
    datasets = pytest.importorskip("datasets")
    rows = trl_rows([vote("q", "ann", "abc")], is_chat=is_chat, has_margin=True)["q"]
    read = datasets.Dataset.from_list([json.loads(line) for line in lines(rows).splitlines()])
    assert read.column_names == ["prompt", "chosen", "rejected", "margin"]
    assert data_utils.is_conversational(read[0]) is is_chat
    unpaired = data_utils.unpair_preference_dataset(read.remove_columns("margin"))
    assert unpaired["label"] == [True] * 3 + [False] * 3
    if is_chat:
        assert read[0]["prompt"] == [{"role": "user", "content": "prompt of q"}]
        assert read[0]["chosen"] == [{"role": "assistant", "content": "text of a"}]


def test_the_table_has_a_line_for_each_vote_and_candidate():
    one = vote("q", "ann", ["b", "ac"], "de", shown=tuple("edcba"), seconds=3.5, at=1_700_000_000.0)
    other = vote("q", "bob", "cannot", "ab", is_late=True, note="no idea")
    rows = list(csv.DictReader(io.StringIO(csv_text([one, other]))))
    assert list(rows[0]) == list(COLUMNS)
    assert [(r["candidate"], r["place"], r["rank"], r["is_tied"]) for r in rows[:5]] == [
        ("e", "1", "", "True"), ("d", "2", "", "True"), ("c", "3", "2", "True"), ("b", "4", "1", "False"),
        ("a", "5", "2", "True"),
    ]  # fmt: skip
    assert (rows[0]["at"], rows[0]["seconds"], rows[0]["text"]) == ("2023-11-14T22:13:20+00:00", "3.5", "text of e")
    assert (rows[5]["cannot_judge"], rows[5]["is_late"], rows[5]["rank"], rows[5]["is_tied"], rows[5]["note"]) == (
        "True", "True", "", "False", "no idea")  # fmt: skip


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1+1", "\uff1d1+1", '=HYPERLINK("http://x")']
)
def test_no_cell_is_a_formula(text):
    """In every column that people or models write: the text behind the quote is whole."""
    one = vote("q", text, ["a", "b"], note=text, prompt=text, candidates={"a": text, "b": "harmless = 1"})
    rows = list(csv.DictReader(io.StringIO(csv_text([one]), newline="")))
    assert {rows[0][name] for name in ("annotator", "note", "prompt", "text")} == {f"'{text}"}
    assert rows[1]["text"] == "harmless = 1"


def test_hostile_texts_stay_in_their_cell_and_line(tmp_path):
    text = 'a","b"\r\nq2,"\u2028\x00\ud800'
    one = vote("q", "ann", "ab", candidates={"a": text, "b": "x"})
    read = list(csv.DictReader(io.StringIO(csv_text([one]), newline="")))
    assert len(read) == 2 and read[0]["text"] == text
    assert lines(vote_rows([one])).count("\n") == 1
    write_text(tmp_path / "votes.csv", csv_text([one]))


def test_votes_can_be_replayed(tmp_path):
    votes = [vote("q", "ann", "ab", "c"), vote("q", "bob", "ba", "c"), vote("p", "ann", ["ab"])]
    file = tmp_path / "votes.jsonl"
    write_text(file, lines(vote_rows(votes)))
    recorded = RecordedRanker(file)
    items = {"x": "text of b", "y": "text of a", "z": "text of c"}
    assert recorded.poll(recorded.ask(items, question="prompt of q")) == Ranking([["x"], ["y"]], ["z"])
    assert recorded.poll(recorded.ask({1: "text of a", 2: "text of b"}, question="prompt of p")) == Ranking([[1, 2]])
    write_text(file, lines(merged_rows(votes)))
    together = RecordedRanker(file)
    assert together.poll(together.ask(items, question="prompt of q")) == Ranking([["y", "x"]], ["z"])


def test_a_row_holds_all_that_is_known_of_a_vote():
    gold = Ranking([["a"], ["b"]])
    one = vote("r", "ann", "ab", original="q", repeat=1, gold=gold, at=5.0, is_late=True)
    [row] = [json.loads(line) for line in lines(vote_rows([one])).splitlines()]
    assert Ranking.from_json(row["gold"]) == Ranking.from_json(row["ranking"]) == gold
    assert {name: row[name] for name in ("id", "original", "repeat", "annotator", "shown", "at", "is_late")} == {
        "id": "r", "original": "q", "repeat": 1, "annotator": "ann", "shown": ["a", "b"], "at": 5.0, "is_late": True,
    }  # fmt: skip


def test_numbers_as_ids_and_candidates_that_look_the_same_can_be_replayed(tmp_path):
    """As code and as Markdown one text is two candidates."""
    votes = [vote("q", "ann", [[1], [2]]), vote("p", "ann", "ab", candidates={"a": "same", "b": "same"})]
    write_text(tmp_path / "votes.jsonl", lines(vote_rows(votes)))
    recorded = RecordedRanker(tmp_path / "votes.jsonl")
    answer = recorded.poll(recorded.ask({"x": "text of 1", "y": "text of 2"}, question="prompt of q"))
    assert answer == Ranking([["x"], ["y"]])
