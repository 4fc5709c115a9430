"""What a result offers beside the accepted values."""

from __future__ import annotations

import json

import pytest

from engine import Budget, optimize, trace
from engine.optimizers import Candidate, Optimizer
from engine.ranking import ProgramRanker


class Fixed(Optimizer):
    needs_llm = False

    def __init__(self, *proposals):
        super().__init__(candidates=1)
        self.left = list(proposals)

    def propose(self, state, n):
        return [Candidate({"right": self.left.pop(0)})]


@pytest.fixture
def search(tmp_path):
    """A search for the number of examples, of twenty, on which the program is right; and the parameter."""

    def run(*proposals, name="run", **options):
        right = trace.param(10, name="right", ge=0, le=20)
        options = {"feedback": lambda example, out: float(out), **options}
        result = optimize(
            lambda example: (right > example) + 0, list(range(20)), optimizer=Fixed(*proposals), workers=1,
            budget=Budget(evaluations=len(proposals)), run_dir=tmp_path / name, **options,
        )  # fmt: skip
        return result, right

    return run


def test_values_with_a_higher_mean_that_were_not_accepted_are_named_and_can_be_taken(search):
    # 10 -> 15 of 20 right: five gains, p = 1/32; 15 -> 17: two, p = 1/4
    result, right = search(15, 16, 17, 12)
    assert result.best == {"right": 15} and right.value == 15
    assert result.unproven is result.history[3] and result.unproven.score == 0.85
    assert "  not accepted: 0.85 in step 3 (result.unproven)\n" in str(result)
    told = json.loads((result.run_dir / "result.json").read_text())["unproven"]
    assert told == {"step": 3, "score": 0.85, "values": {"right": 17}}
    result.reset(result.unproven)
    assert right.value == 17
    result.reset("after")
    assert right.value == 15


def test_where_the_highest_mean_was_accepted_or_nothing_can_be_compared_there_is_none(search):
    assert search(15, 12, name="accepted")[0].unproven is None
    assert search(15, 17, name="better", accept="better")[0].unproven is None
    ranker = ProgramRanker(lambda items, question: {one: len(text) for one, text in items.items()})
    assert search(15, 17, name="ranked", feedback=ranker)[0].unproven is None


def test_a_higher_mean_of_fewer_scored_runs_is_no_more_than_the_accepted_one(tmp_path):
    right = trace.param(10, name="right", ge=0, le=20)

    def score(example, out):
        if right.value == 18 and example > 16:
            raise ValueError("no score")
        return float(out)

    result = optimize(
        lambda example: (right > example) + 0, list(range(20)), feedback=score, optimizer=Fixed(18), workers=1,
        budget=Budget(evaluations=1), run_dir=tmp_path / "run",
    )  # fmt: skip
    assert result.history[1].score == 1 and result.best == {"right": 10}
    assert result.unproven is None
