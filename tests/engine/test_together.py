from __future__ import annotations

import pytest

from engine import Budget, Feedback, Part, Together, optimize, trace
from engine.errors import DataError, InputError
from engine.optimizers import Candidate, Optimizer


class Fixed(Optimizer):
    needs_llm = False

    def __init__(self, *proposals):
        super().__init__(candidates=1)
        self.left, self.states = list(proposals), []

    def propose(self, state, n):
        self.states.append(state)
        return [Candidate(self.left.pop(0))]


class Scaled(trace.Module):
    def __init__(self):
        self.scale = trace.param(1.0, name="scale")

    def __call__(self, x):
        return times(self.scale, x)


@trace.node
def times(a: float, x: float) -> float:
    return a * x


@pytest.fixture
def parts():
    shift = trace.param(0.0, name="shift")

    @trace.node
    def plus(shift: float, x: float) -> float:
        return shift + x

    async def shifted(x):
        return plus(shift, x)

    scaled = Scaled()
    return shift, scaled, Together(
        scaled=Part(scaled, [1.0, 2.0, 3.0], lambda x, out: -abs(out - 2 * x)),
        shifted=Part(shifted, [5.0], lambda x, out: Feedback(-abs(out - 7), "it should be 7")),
    )  # fmt: skip


def search(both, tmp_path, *proposals, **options):
    return optimize(
        both,
        both.data,
        feedback=both.feedback,
        optimizer=Fixed(*proposals),
        budget=Budget(evaluations=len(proposals), invalid=4),
        run_dir=tmp_path / "run",
        **options,
    )


def test_the_parameters_of_all_are_improved_and_set(parts, tmp_path):
    shift, scaled, both = parts
    result = search(both, tmp_path, {"scale": 2.0}, {"shift": 2.0}, {"scale": 3.0})
    # At the start |1x - 2x| for 1, 2, 3 and |5 - 7|: a mean of -2. Scale 2 leaves the last, shift 2 takes it away.
    assert (result.baseline, result.score) == (-2, 0)
    assert [e.score for e in result.history] == [-2, -0.5, 0, -1.5]
    assert (shift.value, scaled.scale.value) == (2.0, 2.0)


def test_the_examples_come_in_turn_and_say_whose_they_are(parts, tmp_path):
    _, _, both = parts
    assert [case.workflow for case in both.data] == ["scaled", "shifted", "scaled", "scaled"]
    optimizer = Fixed({"scale": 2.0})
    optimize(
        both, both.data, feedback=both.feedback, optimizer=optimizer, budget=Budget(evaluations=1), run_dir=tmp_path
    )
    assert optimizer.states[0].examples[1] == "Case(workflow='shifted', example=5.0)"
    assert sorted(p.name for p in optimizer.states[0].params) == ["scale", "shift"]


def test_a_held_out_share_can_be_taken(parts, tmp_path):
    *_, both = parts
    assert search(both, tmp_path, {"scale": 2.0}, validation=0.25).validation is not None


def test_what_is_no_part_is_refused():
    with pytest.raises(InputError, match="Together\\(\\) of nothing"):
        Together()
    with pytest.raises(InputError, match=r"allowed: Part\(workflow, data, feedback\)"):
        Together(a=(times, [1], times))
    with pytest.raises(DataError, match="a has no examples"):
        Together(a=Part(times, [], times))
