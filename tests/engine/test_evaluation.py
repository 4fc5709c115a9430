from __future__ import annotations

import threading
import time

import pytest

from engine import trace
from engine.awaiting import Awaiter
from engine.budget import Budget, Ledger, LimitReached
from engine.errors import LLMUnavailable
from engine.evaluation import Evaluator
from engine.program import Program, text_of


@pytest.fixture
def make():
    """An evaluator of workflow(example) with one parameter x, and its closing."""
    made = []

    def call(workflow, data, workers=4, save=lambda key, outcome: None):
        awaiter = Awaiter()
        evaluator = Evaluator(Program(workflow, lambda _, out: out, data, awaiter), workers=workers, save=save)
        evaluator.params = [X]
        made.extend((awaiter, evaluator))
        return evaluator

    yield call
    for each in made:
        each.close()


X = trace.param(0, name="x")


def candidates(*values):
    return [{"x": value} for value in values]


def scores(found):
    return [[outcome.feedback.score for outcome in row] for row in found]


@pytest.mark.parametrize("workers", [1, 5])
def test_outcomes_stand_in_the_order_of_candidates_and_examples(make, workers):
    evaluator = make(lambda e: 10 * X + e, list(range(6)), workers)
    found = evaluator.evaluate(candidates(3, 1, 2), [4, 0])
    assert scores(found) == [[34, 30], [14, 10], [24, 20]]
    assert X.value == 0


def test_a_pair_is_run_once_even_within_one_call(make):
    runs = []
    evaluator = make(lambda e: runs.append(e) or X + 0, [0, 1])
    evaluator.evaluate(candidates(1, 1), [0, 1])
    evaluator.evaluate(candidates(1), [0, 1])
    assert sorted(runs) == [0, 1]


def test_every_new_outcome_is_saved(make):
    saved = []
    evaluator = make(lambda e: X + e, [0, 1], save=lambda key, outcome: saved.append((key[1], outcome.feedback.score)))
    evaluator.evaluate(candidates(5), [0, 1])
    assert sorted(saved) == [(0, 5), (1, 6)]


def test_runs_are_paid_for_a_candidate_at_a_time(make):
    evaluator = make(lambda e: X + e, [0, 1, 2])
    ledger = Ledger(Budget(runs=7))
    assert len(evaluator.evaluate(candidates(1, 2, 3), [0, 1, 2], ledger)) == 2
    assert ledger.spent()["runs"] == 6
    with pytest.raises(LimitReached):
        evaluator.evaluate(candidates(3), [0, 1, 2], ledger)
    assert scores(evaluator.evaluate(candidates(2), [0, 1, 2], ledger)) == [[2, 3, 4]]


def test_stored_outcomes_are_paid_for_and_not_made_again(make):
    first = make(lambda e: X + e, [0])
    first.evaluate(candidates(1), [0])
    second = make(lambda e: 1 / 0, [0])
    second.stored.update(first.known)
    ledger = Ledger(Budget(runs=5))
    assert scores(second.evaluate(candidates(1), [0], ledger)) == [[1]]
    assert ledger.spent()["runs"] == 1


def test_a_fatal_error_stops_the_others_and_comes_through(make):
    begun = []

    def workflow(example):
        begun.append(example)
        if example == 0:
            raise LLMUnavailable("down")
        time.sleep(0.01)
        return 1

    evaluator = make(workflow, list(range(500)), workers=2)
    with pytest.raises(LLMUnavailable, match="down"):
        evaluator.evaluate(candidates(1), range(500))
    assert len(begun) < 500


def test_an_exception_of_the_program_is_an_outcome(make):
    evaluator = make(lambda e: {}["absent"], [0])
    ((outcome,),) = evaluator.evaluate(candidates(1), [0])
    assert outcome.failed and outcome.feedback.score is None and outcome.feedback.text == "KeyError: 'absent'"


def test_an_awaiter_serves_many_threads_on_one_loop_and_closes():
    import asyncio

    async def where(delay):
        await asyncio.sleep(delay)
        return asyncio.get_running_loop()

    awaiter = Awaiter()
    found = []
    threads = [threading.Thread(target=lambda: found.append(awaiter(where(0.01)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    awaiter.close()
    assert found[0].is_closed()
    awaiter.close()


async def test_an_awaiter_raises_what_the_coroutine_raised():
    async def fail():
        raise ValueError("inside")

    awaiter = Awaiter()
    with pytest.raises(ValueError, match="inside"):
        awaiter(fail())
    awaiter.close()


def test_texts_say_what_they_leave_out():
    assert text_of("abc") == "abc" and text_of([1]) == "[1]"
    assert text_of("x" * 20, limit=5) == "xxxxx ... [15 more characters]"
