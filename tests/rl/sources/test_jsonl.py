"""JSONL files: what comes in, and what is said about a bad line."""

import json

import pytest

from engine.errors import ConfigError, DataError
from rl.sources.jsonl import Jsonl, JsonlConfig


def _write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def _source(folder, near=None, **settings):
    return Jsonl(JsonlConfig(**{"path": "data.jsonl"} | settings), near=near or folder)


def test_rows_become_prompts_with_their_columns(tmp_path):
    _write(
        tmp_path / "data.jsonl", [{"prompt": "a\u2028b", "answer": 1, "level": [2]}, "", {"prompt": "c", "answer": 3}]
    )
    prompts = {p.id: p for p in _source(tmp_path).evaluation()["train"]}
    assert prompts["data.jsonl:1"].prompt == "a\u2028b"
    assert prompts["data.jsonl:1"].columns == {"answer": 1, "level": [2]}
    assert prompts["data.jsonl:3"].columns == {"answer": 3}


def test_chats_and_texts_as_chats(tmp_path):
    chat = [{"role": "user", "content": "hi"}]
    _write(tmp_path / "data.jsonl", [{"messages": chat, "x": 1}])
    assert _source(tmp_path, prompt="messages", columns=["x"]).train[0].prompt == chat
    system = {"role": "system", "content": "Be brief."}
    assert _source(tmp_path, prompt="messages", system="Be brief.").train[0].prompt == [system, *chat]
    _write(tmp_path / "data.jsonl", [{"prompt": "hi"}])
    assert _source(tmp_path, chat=True).train[0].prompt == chat


def test_a_config_file_stands_for_its_folder(tmp_path):
    _write(tmp_path / "data.jsonl", [{"prompt": "a"}])
    (tmp_path / "run.yaml").touch()
    assert _source(tmp_path, near=tmp_path / "run.yaml").train[0].prompt == "a"


def test_held_out_rows_by_share_or_by_file(tmp_path):
    _write(tmp_path / "data.jsonl", [{"prompt": f"q{i}"} for i in range(10)])
    _write(tmp_path / "test.jsonl", [{"prompt": "t"}])
    source = _source(tmp_path, held_out=0.3)
    assert (len(source.train), len(source.held_out)) == (7, 3)
    source = _source(tmp_path, held_out_path="test.jsonl")
    assert (len(source.train), [p.prompt for p in source.held_out]) == (10, ["t"])
    with pytest.raises(ConfigError, match="keep one of the two"):
        _source(tmp_path, held_out=0.3, held_out_path="test.jsonl")


def test_an_evaluation_is_a_fixed_sample(tmp_path):
    _write(tmp_path / "data.jsonl", [{"prompt": f"q{i}"} for i in range(50)])
    source = _source(tmp_path, evaluated=5)
    assert len(source.evaluation()["train"]) == 5
    assert source.evaluation() == _source(tmp_path, evaluated=5).evaluation()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt": "a"', r"data\.jsonl:2: not JSON at column 15"),
        ("[1]", r"data\.jsonl:2: the line holds a list(.|\n)*a JSON object"),
        ({"promt": "a", "answer": 1}, r"data\.jsonl:2: no column 'prompt'. Did you mean 'promt'(.|\n)*promt, answer"),
        ({"prompt": ""}, r"data\.jsonl:2: the prompt is ''"),
        ({"prompt": 5}, r"data\.jsonl:2: the prompt is 5"),
        ({"prompt": [{"role": "user"}]}, r"data\.jsonl:2: the prompt is \[\{'role'"),
        ({}, r"data\.jsonl:2: no column 'prompt'(.|\n)*the row is empty"),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path, row, said):
    _write(tmp_path / "data.jsonl", [{"prompt": "fine"}, row])
    with pytest.raises(DataError, match=said):
        _source(tmp_path)


def test_files_that_are_missing_empty_or_no_text(tmp_path):
    with pytest.raises(DataError, match=r"no file 'data.jsonl'(.|\n)*looked for"):
        _source(tmp_path)
    (tmp_path / "data.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="the file has no rows"):
        _source(tmp_path)
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="cannot be read"):
        _source(tmp_path)
    _write(tmp_path / "data.jsonl", [{"prompt": "a"}])
    with pytest.raises(DataError, match="no column 'gold'"):
        _source(tmp_path, columns=["gold"])
