from __future__ import annotations

import threading

import pytest

from engine import Budget, optimize, trace, trajectories
from engine.optimizers import Candidate, Optimizer

EXAMPLES = [0.1, 0.2, 0.3, 0.4]


class Reader(Optimizer):
    """Proposes x a step higher; remembers what it was shown."""

    needs = frozenset({"score", "graph"})
    needs_llm = False
    shown = 2

    def __init__(self, candidates=1):
        super().__init__(candidates=candidates)
        self.seen = []

    def propose(self, state, n):
        self.seen.append([(t.output, t.subgraph.output.value) for t in state.trajectories])
        return [Candidate({"x": state.current["x"] + 1 - place / 8}) for place in range(n)]


@pytest.fixture
def search(tmp_path):
    made = []
    lock = threading.Lock()

    def call(optimizer, *, name="run", evaluations=3, **options):
        x = trace.param(0.0, name="x")

        @trace.node
        def add(x: float, example: float) -> float:
            with lock:
                made.append((x, example))
            return x + example

        budget = Budget(evaluations=evaluations, invalid=8)
        result = optimize(
            lambda example: add(x, example),
            EXAMPLES,
            feedback=lambda _, out: out,
            optimizer=optimizer,
            budget=budget,
            run_dir=tmp_path / name,
            workers=2,
            **options,
        )
        return result, made

    return call


def test_a_candidate_that_is_worked_from_is_not_run_again_for_its_graphs(search):
    optimizer = Reader()
    result, made = search(optimizer)
    # What is shown of x = 0, 1 and 2 are the runs that their scores come from.
    assert len(made) == 4 + 3 * 4 == result.cost.runs
    assert sorted(set(made)) == sorted({(x, e) for x in (0, 1, 2, 3) for e in EXAMPLES})
    assert [[output for output, _ in seen] for seen in optimizer.seen] == [
        ["0.1", "0.2"],
        ["1.1", "1.2"],
        ["2.1", "2.2"],
    ]
    assert all(float(output) == value for seen in optimizer.seen for output, value in seen)


def test_with_too_many_runs_graphs_come_from_runs_of_their_own_which_count(search, monkeypatch):
    monkeypatch.setattr(trajectories, "MOST_KEPT", 3)
    result, made = search(Reader())
    assert len(made) == 4 + 3 * (2 + 4) == result.cost.runs


def test_of_several_candidates_the_best_ones_graphs_are_kept(search):
    optimizer = Reader(candidates=3)
    result, made = search(optimizer, evaluations=6)
    assert len(made) == 4 + 6 * 4 == result.cost.runs
    assert [output for output, _ in optimizer.seen[1]] == ["1.1", "1.2"]


def test_a_resumed_run_makes_lost_graphs_again_and_does_not_pay_for_them(search):
    whole, _ = search(Reader(), name="whole", evaluations=4)
    search(Reader(), evaluations=2)
    resumed, made = search(Reader(), evaluations=4)
    assert resumed.cost.runs == whole.cost.runs and resumed.best == whole.best
    assert made.count((2.0, 0.1)) == 3  # in the whole run, in the first part, and once more for its graph


def test_batches_that_grow_keep_theirs_too(search):
    result, made = search(Reader(), batch_size=2, evaluations=3)
    # Candidates are run on two examples and then on all.
    assert len(made) == result.cost.runs == 4 + 3 * 4
