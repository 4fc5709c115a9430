from __future__ import annotations

import random

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.errors import InputError
from engine.halving import Round, halved, rounds
from engine.optimizers import Candidate, Evaluation, Optimizer
from engine.ranking.program import ProgramRanker


def test_rounds_are_those_of_the_paper():
    """n = 8 candidates and eta 2: 8, 4, 2, 1 of them on 1/8, 1/4, 1/2 and all of the examples."""
    assert rounds(8, 64, 2) == [Round(8, 8), Round(4, 16), Round(2, 32), Round(1, 64)]
    assert rounds(9, 90, 3) == [Round(9, 10), Round(3, 30), Round(1, 90)]
    assert rounds(8, 16, 2) == [Round(8, 4), Round(4, 8), Round(2, 16)]  # no round with fewer than four examples
    assert rounds(1, 50, 2) == [Round(1, 50)] and rounds(8, 5, 3) == [Round(8, 5)]


def scored(candidate, examples):
    return Evaluation(candidate, tuple(examples), tuple(Feedback(candidate.values["x"]) for _ in examples))


def test_each_round_keeps_the_best_and_adds_examples():
    asked = []

    def evaluate(candidates, examples):
        asked.append((sorted(c.values["x"] for c in candidates), list(examples)))
        return [scored(c, examples) for c in candidates]

    candidates = [Candidate({"x": x}) for x in (3, 1, 4, 0)]
    found = halved(candidates, [7, 2, 9, 4, 1, 0, 3, 8, 5, 6, 11, 10, 12, 13, 14, 15], 2, evaluate)
    assert [x for x, _ in asked] == [[0, 1, 3, 4], [3, 4], [4]]
    assert asked[0][1] == [2, 4, 7, 9] and asked[1][1] == [0, 1, 2, 3, 4, 7, 8, 9] and len(asked[2][1]) == 16
    assert [len(e.examples) for e in found] == [8, 4, 16, 4]  # in the order of the candidates


def test_a_budget_that_ends_leaves_what_was_found():
    left = iter([4, 1])

    def evaluate(candidates, examples):
        return [scored(c, examples) for c in candidates][: next(left)]

    found = halved([Candidate({"x": x}) for x in range(4)], range(16), 2, evaluate)
    assert [len(e.examples) for e in found] == [4, 4, 4, 8]


class Drawn(Optimizer):
    needs_llm = False

    def propose(self, state, n):
        return [Candidate({"x": round(state.rng.random(), 6)}) for _ in range(n)]


def searched(tmp_path, name, **options):
    x = trace.param(0.0, name="x", ge=0, le=1)
    rng = random.Random(0)
    noise = {example: rng.gauss(0, 0.3) for example in range(32)}

    @trace.node
    def height(x: float, example: int) -> float:
        return 1 - abs(x - 0.7) + noise[example]

    return optimize(
        lambda example: height(x, example),
        list(range(32)),
        feedback=lambda _, out: out,
        optimizer=Drawn(candidates=8),
        run_dir=tmp_path / name,
        workers=1,
        **options,
    )


def test_a_search_with_halving_finds_as_much_with_a_fraction_of_the_runs(tmp_path):
    """The scores of an example differ by the same noise for all, so that the best on a few is the best on all."""
    budget = Budget(evaluations=40, invalid=20)
    whole = searched(tmp_path, "whole", budget=budget)
    halves = searched(tmp_path, "halves", budget=budget, halving=2)
    assert halves.best == whole.best and halves.score == whole.score
    # A step takes 8 x 4 + 4 x 4 + 2 x 8 + 1 x 16 new runs and not 8 x 32; the start took 32.
    assert (whole.cost.runs, halves.cost.runs) == (32 + 5 * 256, 32 + 5 * 80)
    assert halves.cost.evaluations == whole.cost.evaluations == 40


def test_with_a_batch_and_a_spent_budget_nothing_unscreened_is_accepted(tmp_path):
    result = searched(tmp_path, "run", budget=Budget(evaluations=None, runs=200, invalid=20), halving=2, batch_size=16)
    assert result.cost.runs <= 200 and result.stopped_by == "runs"
    assert all(len(e.examples) == 32 for e in result.history if e.accepted)


@pytest.mark.parametrize("eta", [1, True, 2.5, "2"])
def test_a_halving_that_is_none(eta):
    with pytest.raises(InputError, match="halving is"):
        optimize(lambda e: e, [1], feedback=lambda _, out: out, halving=eta)


def test_a_ranker_compares_all_on_the_same_examples():
    with pytest.raises(InputError, match="a ranker compares"):
        optimize(lambda e: e, [1], feedback=ProgramRanker(lambda items: list(items)), halving=2)


def test_the_result_tells_the_score_without_the_luck_of_the_choice(tmp_path):
    """Every candidate is the same program with a noise of its own, so that the truth is no gain at all."""
    x = trace.param(0, name="x", ge=0, le=10**6)

    @trace.node
    def noise(x: int, example: int) -> float:
        return random.Random(f"{x}/{example}").random()

    class Any(Optimizer):
        needs_llm = False

        def propose(self, state, n):
            return [Candidate({"x": state.rng.randrange(10**6)}) for _ in range(n)]

    result = optimize(
        lambda example: noise(x, example),
        list(range(40)),
        feedback=lambda _, out: out,
        optimizer=Any(),
        accept="better",
        budget=Budget(evaluations=64),
        run_dir=tmp_path / "run",
        workers=1,
    )
    assert result.score > 0.57 and result.corrected.candidates == 65
    assert abs(result.corrected.score.score - 0.5) < 0.05
    assert result.corrected.difference.low < 0 and "corrected for the choice among 65" in str(result)
    assert "corrected for choosing among 65" in result.report().read_text(encoding="utf-8")
