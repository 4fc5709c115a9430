"""Rows that a function makes."""

import pytest

from engine.errors import ConfigError, DataError, InputError, UnknownName
from rl.sources.python import Python, PythonConfig

FILE = """
def train():
    return [{"text": f"q{i}", "answer": i, "other": 0} for i in range(3)]


def test():
    yield {"text": "t", "answer": 9}


def broken():
    return "rows"


constant = [{"text": "q"}]
"""


@pytest.fixture
def make(tmp_path):
    (tmp_path / "made.py").write_text(FILE)
    return lambda **settings: Python(PythonConfig(prompt="text", **settings), near=tmp_path / "config.yaml")


def test_two_functions_give_the_two_splits(make):
    splits = make(rows="made.py:train", held_out_rows="made.py:test", columns=["answer"]).evaluation()
    assert [(p.id, p.prompt, p.columns) for p in splits["held_out"]] == [("test/0", "t", {"answer": 9})]
    assert [p.columns for p in splits["train"]] == [{"answer": 0}, {"answer": 1}, {"answer": 2}]


def test_rows_may_be_chats(make):
    (first, *_) = make(rows="made.py:train", system="Add.").evaluation()["train"]
    assert first.prompt == [{"role": "system", "content": "Add."}, {"role": "user", "content": "q0"}]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"rows": "made.py:trian"}, UnknownName, "Did you mean 'train'"),
        ({"rows": "nowhere.py:rows"}, UnknownName, "nowhere.py"),
        ({"rows": "made.py"}, InputError, "is not FILE:NAME"),
        ({"rows": "made.py:constant"}, DataError, "made.py:constant: it is a list"),
        ({"rows": "made.py:broken"}, DataError, "made.py:broken: it gave 'rows'"),
        ({"rows": "made.py:train", "columns": ["hint"]}, DataError, "made.py:train row 0: no column 'hint'"),
        ({"rows": "made.py:train", "held_out": 0.5, "held_out_rows": "made.py:test"}, ConfigError, "held_out is 0.5"),
    ],
)
def test_what_is_wrong_is_named(make, settings, error, message):
    with pytest.raises(error, match=message):
        make(**settings)
