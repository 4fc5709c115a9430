"""Typed parameters: what is accepted, what is refused and why, overlays, state."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import trace
from engine.errors import InputError, ParamError
from engine.params import Param, param, using


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "flag"), (1, "integer"), (1.0, "number"), ("a", "text"), ({}, "json"), ([1], "json"), (None, "json")],
)
def test_the_kind_follows_from_the_value(value, kind):
    assert param(value).kind == kind
    assert param("b", choices=["a", "b"]).kind == "choice"
    with pytest.raises(ParamError, match="has no kind"):
        param(object())
    assert param(object(), kind="weights").kind == "weights"


@pytest.mark.parametrize(
    ("first", "given", "stored"),
    [
        (True, "False", False), (True, "true", True), (False, " TRUE ", True),
        (1, 5.0, 5), (1, "5", 5), (1, "-3", -3), (1, "5.0", 5),
        (1.0, 2, 2.0), (1.0, "0.1", 0.1), (1.0, "1e-6", 1e-6),
        ("a", "def f(): pass TERMINATE", "def f(): pass TERMINATE"),
        ({"a": 1}, '{"b": [2]}', {"b": [2]}), ([1], [2, "x"], [2, "x"]), (None, "text", "text"),
    ],
)  # fmt: skip
def test_what_loses_nothing_is_normalised(first, given, stored):
    p = param(first)
    p.set(given)
    assert p.value == stored and type(p.value) is type(stored)


@pytest.mark.parametrize(
    ("first", "given"),
    [
        (True, "no"), (True, 1), (True, 0.0), (True, None), (True, ""),
        (1, 5.7), (1, "5.7"), (1, True), (1, "five"), (1, math.inf), (1, None), (1, 1e300),
        (1.0, "0.1 or so"), (1.0, math.nan), (1.0, "inf"), (1.0, True), (1.0, 2**60 + 1), (1.0, [1.0]),
        ("a", 5), ("a", None), ("a", ["a"]),
        ({"a": 1}, [1]), ({"a": 1}, "[1"), ({"a": 1}, {1: 2}), ({"a": 1}, {"a": math.nan}), ([1], [(1,)]),
        ([1], [object()]), ("a", "\ud800"), (["a"], ["\udfff"]), ({"a": 1}, {"\ud800": 1}),
    ],
)  # fmt: skip
def test_what_would_lose_something_is_refused_with_the_reason(first, given):
    p = param(first, name="p")
    with pytest.raises(ParamError) as refused:
        p.set(given)
    assert str(refused.value).startswith("parameter 'p': ") and refused.value.allowed
    assert p.value == first and p.version == 0
    assert isinstance(refused.value, ValueError) and isinstance(refused.value, InputError)


def test_bounds_are_enforced():
    p = param(0.5, name="p", ge=0, le=1)
    p.set(1), p.set("0")
    for bad in (-0.01, 1.01, "2"):
        with pytest.raises(ParamError, match="0 <= number <= 1"):
            p.set(bad)
    with pytest.raises(ParamError, match="below 1"):
        param(0, ge=1)
    assert param(3, ge=1).schema() == {"type": "integer", "minimum": 1}
    for bad_bounds in ({"ge": 2, "le": 1}, {"ge": 5}):
        with pytest.raises(ParamError):
            param(1, **bad_bounds)
    with pytest.raises(ParamError, match="bounds on numbers"):
        param("a", ge=0)


def test_choices_are_exact():
    p = param("a", choices=["a", "b", 2, True])
    p.set("2")
    assert p.value == 2 and type(p.value) is int
    p.set(True)
    assert p.value is True
    for bad in ("c", 1, "A", None):
        with pytest.raises(ParamError, match="'a', 'b', 2, True"):
            p.set(bad)
    assert p.schema() == {"enum": ["a", "b", 2, True]}
    with pytest.raises(ParamError):
        param("z", choices=["a"])
    with pytest.raises(ParamError, match="choices"):
        param("a", kind="choice")


def test_constraints_are_functions_and_say_why():
    def short(text):
        return len(text) <= 3 or f"{len(text)} letters, at most 3"

    p = param("abc", constraint=short)
    with pytest.raises(ParamError, match="refused by short: 4 letters, at most 3"):
        p.set("abcd")
    with pytest.raises(ParamError, match="refused by <lambda>"):
        param(3, constraint=lambda n: n % 2 == 0)
    with pytest.raises(ParamError, match="raise TypeError"):
        param(3, constraint=len)
    with pytest.raises(ParamError, match="words cannot be enforced"):
        param(3, constraint="should be even")
    assert param(4, constraint=lambda n: None).value == 4


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_json_values_cannot_be_changed_from_outside(value):
    value = [value]
    p = param(value, name="p")
    p.value.append("changed")
    value.append("changed")
    assert p.value == value[:-1]
    assert json.loads(json.dumps(p.value)) == p.value


def test_versions_origin_and_names():
    here = param("a", description="what")
    assert here.name == "here" and here.origin[0] == __file__ and here.version == 0 and here.author == "user"
    here.set("b", author="model")
    assert here.version == 1 and here.author == "model" and here.schema() == {"type": "string", "description": "what"}
    assert repr(here) == "Param('here', text, version 1, 'b')"
    a, b = param(1), param(2)
    assert (a.name, b.name) == ("a", "b")
    assert [param(1).name] == ["param"]
    with pytest.raises(AttributeError):
        here.value = 3
    with pytest.raises(ParamError, match="no kind 'tex'"):
        param("a", kind="tex")


def test_a_param_acts_as_its_value():
    text, number = param("ab", name="text"), param(2, name="number")
    assert text + "c" == "abc" and text.upper() == "AB" and text[0] == "a" and len(text) == 2 and f"{text}" == "ab"
    assert number * 2 == 4 and number == 2 and 3 - number == 1 and bool(number) and list(range(number)) == [0, 1]
    assert {number: 1}[number] == 1
    with pytest.raises(ParamError, match="not code"):
        _ = number.function
    with pytest.raises(AttributeError):
        _ = number.nothing


def test_code_without_a_function_is_a_param_too():
    p = param("def f(x):\n    return x + 1\n", kind="code", name="p")
    assert p.function(1) == 2 and p.source == p.value
    p.set("def f(x):\n    return len(str(x))\n")
    assert p.function(100) == 3


def test_overlays_are_seen_in_their_context_only():
    p, q = param(1, name="p"), param("a", name="q")
    with using({p: 2}):
        assert p.value == 2 and p + 1 == 3 and q.value == "a"
        with using({q: "b", p: "3"}):
            assert (p.value, q.value) == (3, "b")
        assert p.value == 2
        seen = []
        thread = threading.Thread(target=lambda: seen.append(p.value))
        thread.start(), thread.join()
        assert seen == [1]
    assert p.value == 1 and p.version == 0
    with pytest.raises(ParamError, match="parameter 'p'"), using({p: 5.7}):
        pass


async def test_candidates_are_evaluated_side_by_side():
    p = param(0, name="p")

    async def evaluate(n):
        with using({p: n}), trace.record():
            await asyncio.sleep(0.001 * (10 - n))
            y = p * 2
            return y.value, next(iter(trace.backward(y, n))), y.parents[0].value

    assert await asyncio.gather(*map(evaluate, range(10))) == [(2 * n, p, n) for n in range(10)]


def test_copies_are_independent():
    p = param([1], name="p")
    twin = copy.deepcopy(p)
    twin.set([2])
    assert p.value == [1] and twin.value == [2] and copy.copy(p) is not p


class Answerer(trace.Module):
    shared = param("s", name="shared")

    def __init__(self):
        self.instruction = trace.param("Answer.")
        self.options = {"depth": trace.param(3, name="depth"), "other": 5}
        self.itself = self

    @trace.node(trainable=True)
    def parse(self, text):
        return text.strip()


class Program(trace.Module):
    def __init__(self):
        self.steps = [Answerer(), Answerer()]
        self.temperature = trace.param(0.5, ge=0, le=1)
        self.weights = trace.param(object(), kind="weights")


def test_a_module_finds_its_parameters():
    program = Program()
    assert list(program.named_parameters()) == [
        "steps.0.instruction", "steps.0.options.depth", "steps.0.shared", "steps.0.parse",
        "steps.1.instruction", "steps.1.options.depth", "temperature", "weights",
    ]  # fmt: skip
    assert all(isinstance(p, Param) for p in program.parameters()) and len(program.parameters()) == 8
    assert program.temperature.name == "temperature"


def test_state_goes_through_json_and_is_loaded_all_or_nothing():
    program, other = Program(), Program()
    program.steps[0].instruction.set("Think.")
    program.temperature.set(0.9)
    state = json.loads(json.dumps(program.state_dict()))
    assert state["steps.0.instruction"] == "Think." and "weights" not in state
    other.load_state_dict(state)
    assert other.state_dict() == state
    for broken, reason in [
        ({**state, "temperatur": 1}, "Did you mean 'temperature'"),
        ({k: v for k, v in state.items() if k != "temperature"}, "no value for temperature"),
        ({**state, "steps.0.instruction": "x", "temperature": 7}, "above 1"),
    ]:
        with pytest.raises(ParamError, match=reason):
            other.load_state_dict(broken)
        assert other.state_dict() == state
