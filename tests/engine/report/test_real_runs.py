"""Facts: the page of a real run tells what the Result tells."""

from engine import Budget, Feedback, optimize, trace
from engine.llm import ScriptedLLM

TARGET = 7


def guess(example):
    return double(number, example)


@trace.node
def double(number, example):
    """Twice the number."""
    return 2 * number + example


def closeness(example, output):
    off = abs(output - example - 2 * TARGET)
    return Feedback(score=-float(off), text=f"off by <{off}>")


def test_the_page_of_a_real_optimization(tmp_path):
    global number
    number = trace.param(1, name="number", ge=0, le=20, description="to be doubled")
    script = [{"number": n} for n in (3, 99, 3, 7)]
    llm = ScriptedLLM(lambda messages: script.pop(0) if script else {"number": 7})
    result = optimize(
        guess,
        [0, 1, 2, 3],
        feedback=closeness,
        optimizer="best_of_n",
        llm=llm,
        validation=[5, 6],
        budget=Budget(evaluations=6),
        run_dir=tmp_path / "run",
        accept="better",
    )
    text = result.report().read_text()
    assert result.best["number"] == 7
    for fact in ("to be doubled", "on 2 held-out examples", "off by &lt;", "best_of_n", "test_real_runs.py:", "<svg"):
        assert fact in text
    assert text.count("badge good") >= 2
