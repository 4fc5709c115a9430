from __future__ import annotations

import subprocess
import sys

import pytest

import engine


def test_the_public_names_are_what_they_say():
    from engine import Budget, Feedback, Result, optimize, optimize_async, trace

    assert optimize.__module__ == optimize_async.__module__ == "engine.loop"
    assert Budget.__module__ == "engine.budget" and Feedback.__module__ == "engine.feedback"
    assert Result.__module__ == "engine.result" and trace.__name__ == "engine.trace"
    assert dir(engine) == sorted(engine.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = engine.optimise


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import engine", "pydantic torch openai networkx rich typer asyncio"),
        ("from engine import trace, optimize, Feedback, Budget, Result", "torch transformers openai networkx typer"),
        ("import engine.schema", "torch transformers openai"),
    ],
)
def test_imports_stay_light(statement, absent):
    check = f"{statement}\nimport sys\nprint([n for n in {absent.split()!r} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
