"""The task with a cliff: its sums, its hints, and what the small model for it is taught."""

import math
import random
import re

import pytest

NAMES = {"knowledge_components_parts", "planning_skeleton_parts", "solution_breakdown_parts"}


@pytest.fixture
def task(agent):
    return lambda name: agent(f"long_addition.py:{name}")


def test_a_sum_by_columns_and_at_a_glance(task):
    assert task("work")(482, 395) == "work 2+5+0=07,8+9+0=17,4+3+1=08:877"
    assert task("work")(47, 25) == "work 7+5+0=12,4+2+1=07:72"
    assert task("glance")(482, 395) == "~900"


def test_the_last_number_counts(task):
    right = task("last_number")(["work 2+2+0=04:4\n", "~4\n", "4 or 5", "", "44"], answer=["4"] * 5)
    assert right == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_every_row_is_a_sum_with_four_hints_a_tier_that_do_not_tell_it_below_the_solution(task):
    train, held_out = task("train")(), task("held_out")()
    assert (len(train), len(held_out)) == (400, 100)
    assert len({row["prompt"] for row in train + held_out}) == 500
    for row in train + held_out:
        a, b = map(int, re.fullmatch(r"(\d{3})\+(\d{3})=", row["prompt"]).groups())
        assert row["answer"] == str(a + b)
        assert [len(row[name]) for name in sorted(NAMES)] == [4, 4, 4]
        below = "\n".join(row["knowledge_components_parts"] + row["planning_skeleton_parts"])
        assert row["answer"] not in re.findall(r"\d+", below)
        assert row["solution_breakdown_parts"][-1] == f"so {row['answer']}"
        assert task("last_number")([task("work")(a, b), task("glance")(a, b)], [row["answer"]] * 2) == [1.0, 0.0]
    assert task("train")() == train


def test_the_model_is_taught_that_each_part_of_a_hint_makes_it_likelier_to_work_a_sum_out(agent):
    text, tokenizer = agent("adder.py:text"), agent("adder.py:characters_and_words")()
    rng = random.Random(0)
    odds = {}
    for prompt, completion, wanted in (text(rng) for _ in range(3000)):
        assert tokenizer.decode(tokenizer(prompt + completion)["input_ids"]) == prompt + completion
        *hint, question = prompt.split("\n")
        assert re.fullmatch(r"\d{3}\+\d{3}=", question) and completion[0] in "w~"
        tier = next((i for i, start in enumerate(("add", "first", "")) if hint and hint[0].startswith(start)), 0)
        odds[4 * tier + len(hint)] = wanted
    assert sorted(odds) == list(range(13))
    assert [odds[i] for i in range(13)] == sorted(odds.values())
    assert math.exp(odds[0]) < 0.0001 and math.exp(odds[12]) > 1
