"""The addition task as the issue states it."""

import pytest

from engine.config import parse_source, validate
from engine.errors import ConfigError
from rl.sources.arithmetic import Arithmetic, ArithmeticConfig


def test_the_prompt_is_three_examples_and_the_question():
    source = Arithmetic(ArithmeticConfig())
    prompts = {p.id: p for split in source.evaluation().values() for p in split}
    assert len(prompts) == 100
    assert prompts["8+5"].prompt == "2+3=5\n4+4=8\n7+6=13\n8+5="
    assert {k: v.columns["answer"] for k, v in prompts.items()} == {
        f"{a}+{b}": str(a + b) for a in range(10) for b in range(10)
    }


def test_eighty_pairs_train_and_twenty_do_not():
    splits = Arithmetic(ArithmeticConfig(), seed=4).evaluation()
    assert (len(splits["train"]), len(splits["held_out"])) == (80, 20)
    other = Arithmetic(ArithmeticConfig(split_seed=1)).evaluation()
    assert {p.id for p in other["held_out"]} != {p.id for p in splits["held_out"]}


def test_sizes_are_options():
    source = Arithmetic(ArithmeticConfig(max_operand=2, shots=1, held_out=0))
    assert set(source.evaluation()) == {"train"}
    assert {p.prompt for p in source.batch(9)} == {f"2+3=5\n{a}+{b}=" for a in range(3) for b in range(3)}


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(ConfigError, match=r"held_out is 4, and there are 4 pairs"):
        Arithmetic(ArithmeticConfig(max_operand=1, held_out=4))


def test_a_misspelt_option_is_refused_with_its_place():
    section = parse_source("source:\n  kind: arithmetic\n  shot: 2\n", "x.yaml")
    with pytest.raises(ConfigError, match=r"x.yaml:3:9 at source.shot: unknown key 'shot'. Did you mean 'shots'"):
        validate(ArithmeticConfig, section, ("source",))
