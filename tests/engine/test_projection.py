from __future__ import annotations

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.llm import ScriptedLLM
from engine.projection import outlook, projection, runs_of_a_step


def test_the_runs_of_a_step():
    assert runs_of_a_step(8, 32, 32, None) == 256
    assert runs_of_a_step(8, 10, 32, None) == 102  # 8 x 10 and the best one on the 22 others
    # 8 on 4 of 32, 4 on 4 more, 2 on 8 more, 1 on 16 more
    assert runs_of_a_step(8, 32, 32, 2) == 32 + 16 + 16 + 16


def test_a_plan_tells_steps_runs_time_answers_and_money():
    told = projection(
        Budget(evaluations=60, usd=2), candidates=8, examples=30, batch=30, halving=None, seconds_a_run=0.5, workers=4,
        calls=2, answer_tokens=1600, price=10.0,
    )  # fmt: skip
    assert told == (
        "plan: at most 8 steps of 8 candidates, 1,920 program runs (about 4 min), "
        "16 calls with 12,800 tokens of answers ($0.13, and the prompts); limits: evaluations 60, usd 2, invalid 64"
    )


def test_a_plan_is_cut_by_the_runs_and_tells_peoples_time():
    told = projection(
        Budget(runs=100), candidates=8, examples=3, batch=3, halving=None, seconds_a_run=0.001, workers=1,
        seconds_a_question=40.0,
    )  # fmt: skip
    assert "100 program runs (under a second), about 16 min of people's time" in told
    endless = Budget(evaluations=None, seconds=60)
    assert "no limit of evaluations or steps" in projection(
        endless, candidates=1, examples=1, batch=1, halving=None, seconds_a_run=1, workers=1
    )


def test_an_outlook_is_the_first_step_as_often_as_there_are_steps():
    before = {"calls": 0, "tokens": 0, "usd": 0, "seconds": 10.0}
    after = {"calls": 2, "tokens": 1500, "usd": 0.05, "seconds": 40.0}
    told = outlook(Budget(evaluations=32), 8, before, after)
    assert told == "outlook: if all 4 steps are like the first, 8 calls, 6,000 tokens, $0.20, about 2 min"
    assert outlook(Budget(evaluations=None), 8, before, after) == outlook(Budget(), 8, before, before) == ""


@pytest.mark.parametrize("name, calls", [("opro", 2), ("best_of_n", 2), ("optoprime", 1), ("random", 0)])
def test_the_plan_is_printed_before_the_first_call(name, calls, tmp_path, capsys):
    a, b = trace.param("a", name="a"), trace.param("b", name="b")

    @trace.node
    def join(a: str, b: str) -> str:
        return a + b

    told = []

    def answer(messages):
        told.append(capsys.readouterr().err)
        return {"reasoning": "", "suggestion": {"a": "c"}} if name == "optoprime" else "c"

    optimize(
        lambda: join(a, b),
        feedback=lambda _, out: Feedback(len(out), "longer"),
        optimizer=name,
        llm=ScriptedLLM(answer),
        budget=Budget(evaluations=8, invalid=16),
        run_dir=tmp_path / "run",
    )
    said = told[0] if calls else capsys.readouterr().err
    assert "plan: at most" in said and (f"{calls} calls" in said if name in ("opro", "best_of_n") else True)
    assert ("calls" in said.split("plan: ")[1]) == (calls > 0)
