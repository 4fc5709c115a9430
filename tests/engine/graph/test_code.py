"""Trainable code of the user: its source is a parameter, versioned, checked, compiled."""

from __future__ import annotations

import pytest

from engine import trace
from engine.errors import ParamError

OFFSET = 10


@trace.node(trainable=True)
def shifted(x, by=1):
    """x moved."""
    return x + by


@pytest.fixture
def restored():
    before = shifted.code.value
    yield
    shifted.code.set(before)


def test_code_is_a_parameter_and_a_parent(restored):
    assert shifted.code.kind == "code" and shifted.code.name == "shifted" and shifted.code.description == "x moved."
    assert shifted.code.value.startswith("def shifted(x, by=1):\n") and shifted.code.origin[0] == __file__
    with open(__file__) as lines:
        assert lines.read().splitlines()[shifted.code.origin[1] - 1] == "def shifted(x, by=1):"
    with trace.record():
        y = shifted(1)
    assert y.value == 2 and [p.name for p in y.parents] == ["shifted"]
    assert trace.backward(y, "no")[shifted.code].code() == "shifted_1 = shifted(1)"


def test_a_users_version_runs_with_the_same_globals_and_is_compiled_once(restored):
    shifted.code.set("def shifted(x, by=1):\n    return x + by + OFFSET\n")
    assert shifted(1) == 12 and shifted.code.version >= 1
    assert shifted.code.function is shifted.code.function
    with trace.record():
        assert shifted(1).value == 12
    with pytest.raises(ZeroDivisionError):
        shifted.code.set("def shifted(x, by=1):\n    return x / 0\n")
        shifted(1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def shifted(x):\n    return x\n", "parameters changed from 'x, by=1' to 'x'"),
        ("def shifted(x, by=2):\n    return x\n", "parameters changed"),
        ("def moved(x, by=1):\n    return x\n", "name changed"),
        ("async def shifted(x, by=1):\n    return x\n", "kind changed"),
        ("def shifted(x, by=1):\n    yield x\n", "kind changed"),
        ("def shifted(x, by=1)\n    return x\n", "not Python at line 1"),
        ("import re\ndef shifted(x, by=1):\n    return x\n", "holds Import, FunctionDef"),
        ("", "holds nothing"),
        ("def shifted(x, by=1):\n    nonlocal q\n    return x\n", "does not compile"),
        (5, "code is int, not text"),
    ],
)
def test_a_version_must_keep_the_signature(text, reason):
    before = shifted.code.value
    with pytest.raises(ParamError, match=reason) as refused:
        shifted.code.set(text)
    assert "parameter 'shifted'" in str(refused.value)
    assert shifted.code.value == before


def test_annotations_indentation_and_a_docstring_with_def_are_free(restored):
    shifted.code.set('    def shifted(x: int, by: int = 1) -> int:\n        """def of it."""\n        return x - by\n')
    assert shifted(1) == 0 and shifted.code.value.startswith("def shifted(x: int")


def test_a_users_version_may_call_itself(restored):
    shifted.code.set("def shifted(x, by=1):\n    return x if x > 5 else shifted(x + by)\n")
    assert shifted(1) == 6

    @trace.node(trainable=True)
    def down(x):
        return down(x - 1) if x else 0

    down.code.set("def down(x):\n    return down(x - 1) + 1 if x else 0\n")
    assert down(3) == 3


def test_closures_and_super_survive_a_new_version():
    def make(k):
        @trace.node(trainable=True)
        def scaled(x):
            return x * k

        return scaled

    three = make(3)
    three.code.set("def scaled(x):\n    return x * k + 1\n")
    assert three(2) == 7 and make(5)(2) == 10

    class Base:
        def name(self):
            return "base"

    class Child(Base):
        @trace.node(trainable=True)
        def name(self):
            return "child of " + super().name()

    Child.name.code.set("def name(self):\n    return super().name() + '!'\n")
    assert Child().name() == "base!"


def test_tracebacks_of_versions_show_their_lines():
    @trace.node(trainable=True, catch=True)
    def risky(x):
        return x

    risky.code.set("def risky(x):\n    y = 1\n    return x / 0\n")
    with trace.record(), pytest.raises(ZeroDivisionError) as caught:
        risky(1)
    assert "in risky, line 3: return x / 0" in trace.error_node(caught.value).feedback.text
