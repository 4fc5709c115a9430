"""The tier "monty"."""

import pytest

from engine.sandbox import Sandbox

pytest.importorskip("pydantic_monty", reason="pydantic-monty is not installed (pip install 'trace-engine[monty]')")


@pytest.fixture(scope="module")
def monty():
    with Sandbox(tier="monty", workers=1) as found:
        yield found


def test_programs_and_calls(monty: Sandbox) -> None:
    assert monty.tier == "monty"
    assert monty.run("import math\nprint('hi')\nRESULT = {'a': [1, (2.5, None)], 'b': 10 ** 30}").value == {
        "a": [1, (2.5, None)], "b": 10**30,
    }  # fmt: skip
    assert monty.call("def f(x, y=1): return x * y", "f", (3,), {"y": 4}).value == 12
    assert monty.run("print('hi')\nRESULT = 1").stdout == "hi\n"
    assert monty.run_twice("RESULT = {1, 2}").agrees


@pytest.mark.parametrize(
    ("source", "kind", "type_name"),
    [
        ("1 / 0", "exception", "ZeroDivisionError"), ("x = (", "syntax", "SyntaxError"), ("x = 1", "value", ""),
        ("while True: pass", "timeout", ""), ("x = [0] * 10**9", "memory", "MemoryError"),
        ("open('/etc/passwd')", "exception", "PermissionError"), ("RESULT = 'x' * 2**21", "output", ""),
        ("while True: print('x' * 1000)", "output timeout", ""), ("import socket", "exception", "ModuleNotFoundError"),
        ("class A: pass\nRESULT = A()", "value", ""),
    ],
)  # fmt: skip
def test_why_there_is_no_value(monty: Sandbox, source: str, kind: str, type_name: str) -> None:
    error = monty.run(source, timeout_s=0.5).error
    assert error is not None
    assert error.kind in kind.split()
    assert error.type == type_name


def test_a_task_does_not_reach_the_next(monty: Sandbox) -> None:
    assert monty.run("kept = 3\nRESULT = 1").ok
    assert monty.run("RESULT = kept").error.type == "NameError"
