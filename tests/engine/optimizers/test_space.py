"""Intervals by hand, and values that come back from their coordinates."""

from __future__ import annotations

import math

import pytest

from engine import trace
from engine.optimizers._space import Space
from tests.engine.optimizers.searching import evaluation, start_state


def axis_of(param, history=None, log=None):
    (axis,) = Space.of(start_state([param], history), log).axes
    return axis


PARAMS = [
    trace.param(0.5, name="bounded", ge=-1, le=3), trace.param(4, name="whole", ge=2, le=9),
    trace.param(0.01, name="log", ge=1e-4, le=1), trace.param(100, name="log whole", ge=1, le=5000),
    trace.param(-3.0, name="open"), trace.param(2.0, name="low", ge=1.5), trace.param(7, name="high", le=9),
]  # fmt: skip


@pytest.mark.parametrize("param", PARAMS, ids=lambda p: p.name)
def test_every_coordinate_is_a_value_and_gives_itself_back(param):
    axis = axis_of(param)
    values = [axis.value(i / 200) for i in range(201)]
    assert all(param.check(v) == v for v in values) and values == sorted(values)
    for value in values:
        assert axis.value(axis.unit(value)) == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_ends_by_hand():
    bounded, whole, log, _, free, low, high = map(axis_of, PARAMS)
    assert (bounded.value(0), bounded.value(0.5), bounded.value(1)) == (-1, 1, 3)
    # each of 2..9 has an eighth
    assert [whole.value((i + 0.5) / 8) for i in range(8)] == list(range(2, 10))
    assert log.value(0.5) == pytest.approx(1e-2)
    assert (free.value(0), free.value(0.5), free.value(1)) == pytest.approx((-33, -3, 27))  # 10 scales of 3 each way
    assert (low.value(0), low.value(1)) == pytest.approx((1.5, 22)) and high.value(1) == 9 and high.value(0) == -63


def test_an_open_side_grows_with_what_was_found_there():
    param = trace.param(0.0, name="x")
    history = [evaluation({"x": 0.0}, 0.0), evaluation({"x": 8.0}, 1.0)]
    assert axis_of(param, history).value(1) == pytest.approx(16)  # twice the distance of the best
    history += [evaluation({"x": -30.0}, -1.0)]
    assert axis_of(param, history).value(0) == pytest.approx(-30)  # as far as anything went
    assert axis_of(param).value(1) == pytest.approx(10)


def test_which_numbers_are_on_a_log_scale():
    assert axis_of(PARAMS[2]).bend == "log" and axis_of(PARAMS[2], log=[]).bend == "linear"
    assert axis_of(trace.param(0.5, name="x", ge=0.01, le=1)).bend == "linear"  # a ratio of 100
    named = axis_of(trace.param(2.0, name="x"), log=["x"])
    assert (named.bend, named.value(0), named.value(1)) == ("log", pytest.approx(0.002), pytest.approx(2000))
    whole = axis_of(trace.param(3, name="x"), log=["x"])
    assert whole.value(0) == 1 and isinstance(whole.value(0.3), int)


def test_the_size_of_a_space():
    given = [PARAMS[1], trace.param(True, name="flag"), trace.param("a", name="c", choices=["a", "b", "c"])]
    assert Space.of(start_state(given)).size == 8 * 2 * 3
    assert Space.of(start_state([*given, PARAMS[0]])).size == math.inf
    assert Space.of(start_state([trace.param(2.0, name="one", ge=2, le=2)])).size == 1


def test_a_choice_is_found_again_by_its_kind_and_as_json_gives_it_back():
    mixed = trace.param((1, 2), name="c", choices=[(1, 2), 1, True, "1", 1.5])
    (category,) = Space.of(start_state([mixed])).categories
    assert [category.place(v) for v in ([1, 2], (1, 2), 1, True, "1", 1.5)] == [0, 0, 1, 2, 3, 4]
