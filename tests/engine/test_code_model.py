"""Code as a parameter with the embedded model: too small to repair much, and never able to do harm."""

from __future__ import annotations

import pytest

from engine import Budget, Feedback, optimize, sandbox, trace

pytestmark = [pytest.mark.model, pytest.mark.slow]
INPUTS = ["3 apples", "12 pears", "no number", "7", "1 and 2", "40 cents", "x 5", "9 lives", "", "8-10"]
WANTED = [3, 12, 0, 7, 1, 40, 5, 9, 0, 8]


@trace.node(trainable=True)
def first_number(text: str) -> int:
    """The first number in the text, or 0."""
    return len(text)


def judge(text, output):
    wanted = WANTED[INPUTS.index(text)]
    return Feedback(float(output == wanted), f"for {text!r} it gave {output!r:.60}, wanted {wanted}")


@pytest.fixture
def restored():
    before = first_number.code.value
    yield before
    first_number.code.set(before)


@pytest.mark.parametrize("options", [{"kind": "optoprime", "max_tokens": 64}, {"kind": "opro", "explore": 0}])
def test_a_small_model_never_makes_code_worse_and_all_it_writes_runs_in_the_sandbox(
    options, restored, embedded_model, tmp_path, monkeypatch
):
    served, real = [], sandbox.Sandbox.call

    def call(self, *args, **named):
        served.append(args[0])
        return real(self, *args, **named)

    monkeypatch.setattr(sandbox.Sandbox, "call", call)
    result = optimize(
        first_number,
        INPUTS,
        feedback=judge,
        optimizer={**options, "candidates": 2},
        llm="local:smollm2-135m",
        budget=Budget(steps=2, invalid=16),
        run_dir=tmp_path / "run",
        workers=2,
    )
    tried = {e.candidate.values["first_number"] for e in result.history} - {restored}
    told = f"{result.baseline} -> {result.score}, {len(tried)} versions run, {result.cost.invalid} refused"
    print(f"\n{options['kind']}: {told}\n", *tried)
    assert result.score >= result.baseline and result.cost.calls > 0
    assert len(served) == len(tried) * len(INPUTS) and len(set(served)) == len(tried)
    assert first_number.code.author == ("model" if result.best["first_number"] != restored else "user")
