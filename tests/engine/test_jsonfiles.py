"""Facts: JSON is strict, a torn last line is skipped and cut off, a whole file is replaced at once."""

import json
import os
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataError, InputError
from engine.jsonfiles import JsonLines, json_text, locked, read_json, read_lines, write_json, write_text

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_json_values_come_back_as_they_were(value):
    assert json.loads(json_text(value)) == value


def test_numbers_that_are_not_finite_are_spelled_out():
    text = json_text({"a": [float("nan"), (float("inf"), float("-inf"))]})
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"bare {name}")) == {
        "a": ["NaN", ["Infinity", "-Infinity"]]
    }


def test_values_with_one_json_meaning_are_converted():
    @dataclass
    class Point:
        x: int

    Pair = namedtuple("Pair", "a b")

    class Scalar:  # what NumPy and torch scalars offer
        def tolist(self):
            return float("nan")

    value = {"p": Point(1), "pair": Pair(1, 2), "set": {2, 1}, "path": Path("a"), "scalar": Scalar()}
    assert json.loads(json_text(value)) == {"p": {"x": 1}, "pair": [1, 2], "set": [1, 2], "path": "a", "scalar": "NaN"}


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, b"bytes"])
def test_what_json_cannot_hold_is_an_input_error(value):
    with pytest.raises(InputError, match="JSON cannot hold"):
        json_text(value)


def test_a_value_that_holds_itself_is_an_input_error():
    value = []
    value.append(value)
    with pytest.raises(InputError):
        json_text(value)


@settings(max_examples=30)
@given(rows=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4), cut=st.integers(1, 10**6))
def test_any_cut_of_the_file_leaves_whole_rows(rows, cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = JsonLines(path)
    for row in rows:
        lines.append(row)
    lines.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut % (len(data) + 1)])
    kept = read_lines(path)
    assert kept == rows[: len(kept)]
    again = JsonLines(path)
    again.append({"new": 1})
    again.close()
    assert read_lines(path) == [*kept, {"new": 1}]


def test_text_with_a_lone_surrogate_can_be_written(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"text": "a\ud800b"})
    lines.close()
    assert read_lines(tmp_path / "a.jsonl") == [{"text": "a\ud800b"}]


def test_a_damaged_middle_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        read_lines(path)


def test_no_file_has_no_rows(tmp_path):
    assert read_lines(tmp_path / "none.jsonl") == []


def test_threads_write_whole_lines(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")

    def write(thread):
        for number in range(50):
            lines.append({"thread": thread, "number": number, "text": "x" * 500})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    lines.close()
    rows = read_lines(tmp_path / "a.jsonl")
    assert len(rows) == 400
    assert [r["number"] for r in rows if r["thread"] == 3] == list(range(50))


def test_keep_drops_rows_and_goes_on_appending(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    for number in range(5):
        lines.append({"n": number})
    assert lines.keep(lambda row: row["n"] < 2) == 3
    lines.append({"n": 9})
    lines.close()
    assert [row["n"] for row in read_lines(tmp_path / "a.jsonl")] == [0, 1, 9]


def test_a_failed_replacement_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write_json(path, {"new": 1})
    monkeypatch.undo()
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_json(tmp_path / "none.json")
    write_text(tmp_path / "bad.json", '{"a":\n oops}')
    with pytest.raises(DataError, match=r"bad\.json:2:2"):
        read_json(tmp_path / "bad.json")


def test_writing_below_a_file_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "file" / "a.json", "{}")


def test_a_lock_dies_with_its_process_and_is_held_by_one(tmp_path):
    path = tmp_path / "x.lock"
    code = f"import os\nfrom engine.jsonfiles import locked\nwith locked({str(path)!r}):\n    os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with locked(path), pytest.raises(InputError, match="cannot lock"), locked(path, timeout_s=0.01):
        pass
    with locked(path):
        pass
    with pytest.raises(InputError, match=r"none.x\.lock: cannot lock"), locked(tmp_path / "none" / "x.lock"):
        pass
