"""Simulated models answer what is asked for, and get nearer to their targets as often as they should."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import trace
from engine.llm.schema import check_schema, faults
from engine.optimizers._answers import suggestion_schema
from engine.optimizers._turns import fresh
from engine.testing import Proposer, echo, random_values
from engine.testing.skills import nearer, random_value

BOUNDS = st.integers(-1000, 1000)
NUMBERS = st.tuples(st.sampled_from(["number", "integer"]), BOUNDS, st.integers(2, 50)).map(
    lambda t: {"type": t[0], "minimum": t[1], "maximum": t[1] + t[2]}
)
ONE_SIDED = st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]).flatmap(
    lambda key: BOUNDS.map(lambda bound: {"type": "number", key: bound})
)
TEXTS = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(
    lambda t: {"type": "string", "minLength": t[0], "maxLength": t[0] + t[1]}
)
OTHERS = st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"enum": ["a", 2]}, {"const": [1]}, {}])
SCHEMAS = st.recursive(
    NUMBERS | ONE_SIDED | TEXTS | OTHERS,
    lambda inner: (
        st.dictionaries(st.text(min_size=1), inner, max_size=4).map(
            lambda p: {"type": "object", "properties": p, "required": list(p), "additionalProperties": False}
        )
        | st.tuples(inner, st.integers(0, 3)).map(
            lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + 1}
        )
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.integers())
def test_a_random_value_satisfies_its_schema(schema: dict[str, Any], seed: int) -> None:
    check_schema(schema)
    assert list(faults(random_value(schema, random.Random(seed)), schema)) == []


def test_echo_says_the_last_message_also_of_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert echo([{"role": "user", "content": parts}], {}).strip() == "a"


def test_random_values_are_equal_for_equal_requests() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    request = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    answers = [random_values([], {**request, "seed": n % 5}) for n in range(10)]
    assert answers[:5] == answers[5:] and len(set(answers)) == 5
    assert set(json.loads(answers[0])) == {"x"}


@pytest.mark.parametrize(
    ("now", "target", "expected"),
    [
        (0.0, 1.0, 0.5),
        (1, 9, 5),
        (8, 9, 9),
        (12, 9, 10),  # half of the way is 10.5, to the even number
        ("b", "a", "a"),
        ("the cat", "the dog sat", "the dog"),
        ("", "one two", "one"),
        ("one two three", "one", "one"),
        (None, 0.5, 0.5),
        (False, True, True),
    ],
)
def test_nearer_is_nearer(now: Any, target: Any, expected: Any) -> None:
    assert nearer(now, target) == expected


def params() -> list[Any]:
    return [
        trace.param(0.25, name="x", ge=0, le=1),
        trace.param("a", name="mode", choices=["a", "b", "c"]),
        trace.param("say it", name="hint", description="a hint"),
    ]


TARGETS = {"x": 0.75, "mode": "b", "hint": "say less"}
BETTER = {"x": 0.5, "mode": "b", "hint": "say less"}


def test_a_proposer_fills_a_schema_and_improves_with_its_probability() -> None:
    skill = Proposer(TARGETS, p=0.5)
    schema = suggestion_schema(params())
    shown = '(number) x = 0.25\n(choice) mode = "a"\n(text) hint = "say it"  # a hint'
    request = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    answers = [json.loads(skill([{"role": "user", "content": shown}], {**request, "seed": n})) for n in range(400)]
    assert all(list(faults(answer, schema)) == [] for answer in answers)
    for name, value in BETTER.items():
        share = sum(answer["suggestion"][name] == value for answer in answers) / 400
        chance = 0.5 + (0.5 / 3 if name == "mode" else 0.0)  # one of three choices is right by chance
        assert abs(share - chance) < 0.1  # four standard errors


@pytest.mark.parametrize("param", params(), ids=lambda param: param.name)
def test_a_proposer_answers_a_conversation_about_one_parameter(param: Any) -> None:
    skill = Proposer(TARGETS, p=0.5, asks={"hint": "a hint"})
    messages, _ = fresh(param, "Do well.", param.value)
    texts = [skill(messages, {"seed": n}) for n in range(100)]
    valid = [param.check(text) for text in texts]  # also those drawn at random keep the limits
    better = {"x": 0.5, "mode": "b", "hint": "say less"}[param.name]
    assert 30 <= valid.count(better) <= 85
