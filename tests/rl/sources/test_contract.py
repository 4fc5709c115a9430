"""What every source does, whichever is installed."""

import json

import pytest

from engine.errors import UnknownName
from rl import sources
from rl.types import Prompt

ROWS = "def rows():\n    return ({'prompt': f'q{i}', 'answer': str(i)} for i in range(12))\n"


@pytest.fixture(params=sources.names())
def make(request, tmp_path):
    """A function that builds the source anew."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"q{i}", "answer": str(i)}) + "\n" for i in range(12)))
    for name in ("forget", "retain"):
        lines = [json.dumps({"question": f"{name} {i}?", "answer": str(i)}) + "\n" for i in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "made.py").write_text(ROWS)
    settings = {
        "arithmetic": {},
        "jsonl": {"path": "rows.jsonl", "held_out": 0.25},
        "hf": {"dataset": "rows.jsonl", "held_out": 0.25},
        "rows": {"rows": [{"prompt": f"q{i}", "answer": str(i)} for i in range(12)], "held_out": 0.25},
        "python": {"rows": "made.py:rows", "held_out": 0.25},
        "reasoning_gym": {"task": "chain_sum", "size": 9, "held_out": 3},
        "triplets": {"form": "line", "chat": False, "held_out": "one_line"},
        "unlearning": {"forget": "forget.jsonl", "retain": "retain.jsonl"},
    }
    kind = sources.load(request.param)
    config = kind.Config(kind=request.param, **settings.get(request.param, {}))
    return lambda seed=0: kind(config, seed=seed, near=tmp_path)


def test_batches_and_resume(make):
    source, other = make(), make()
    first = source.batch(5)
    assert all(isinstance(prompt, Prompt) for prompt in first)
    assert other.batch(5) == first
    resumed = make(seed=9)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert resumed.batch(20) == source.batch(20)


def test_splits_share_no_prompt_and_do_not_depend_on_the_seed(make):
    splits = make().evaluation()
    if "offline" in make().trainers:
        assert {"forget", "retain"} <= set(splits)
        ids = [prompt.id for prompts in splits.values() for prompt in prompts]
        assert len(ids) == len(set(ids)) and make(seed=5).evaluation() == splits
        return
    assert set(splits) == {"train", "held_out"}
    held_out = {prompt.id for prompt in splits["held_out"]}
    assert not held_out & {prompt.id for prompt in splits["train"]}
    assert not held_out & {prompt.id for prompt in make().batch(100)}
    assert make(seed=5).evaluation() == splits


def test_columns_are_plain_data(make):
    for prompt in make().batch(3):
        assert json.loads(json.dumps(dict(prompt.columns))) == dict(prompt.columns)
        assert "answer" in prompt.columns or "triplet" in prompt.columns  # which holds the answer, or asks for one


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'arithmetic'"):
        sources.load("arithmetics")
