"""Facts of prompts that stand in the config."""

import pytest

from engine.errors import ConfigError, DataError
from rl.config import load
from rl.sources.rows import Inline, InlineConfig


def test_rows_are_prompts_with_their_columns() -> None:
    source = Inline(InlineConfig(rows=[{"prompt": "1+1=", "answer": "2"}, {"prompt": "1+2=", "answer": "3"}]))
    assert {p.prompt: dict(p.columns) for p in source.batch(2)} == {"1+1=": {"answer": "2"}, "1+2=": {"answer": "3"}}
    assert len({p.id for p in source.batch(2)}) == 2


def test_a_row_without_a_prompt_is_named() -> None:
    with pytest.raises(DataError, match="row 2"):
        Inline(InlineConfig(rows=[{"prompt": "x"}, {"question": "y"}]))
    with pytest.raises(ConfigError, match=r"source\.rows"):
        load(
            {
                "model": {"name": "m"},
                "method": {"kind": "grpo"},
                "source": {"kind": "rows", "rows": []},
                "rewards": ["x"],
            }
        )
