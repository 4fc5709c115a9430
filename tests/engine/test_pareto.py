"""Fronts by hand, and the properties that make a front one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Feedback
from engine.pareto import front, objectives, vector_of, wins


def vectors(*rows):
    return [{i: score for i, score in enumerate(row) if score is not None} for row in rows]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1, 0), (0, 1), (0, 0)], [0, 1]),
        ([(1, 0), (0, 1), (0.6, 0.6)], [0, 1, 2]),  # best nowhere, and beaten by none
        ([(0, 0), (1, 0), (1, 1)], [2]),
        ([(1, 1), (1, 1)], [0]),
        ([(0, 2), (1, 1), (2, 0), (1, 0), (0, 1), (1, 2)], [2, 5]),
        ([(None, 1), (0, 1)], [1]),  # a missing score is worse than any
        ([(None, 1), (0, 0)], [0, 1]),
        ([(None, None), (None, None)], [0]),
        ([(1e16, 1.0), (1e16, 2.0)], [1]),  # both sums are 1e16 + 2 or less: rounding does not hide dominance
        ([(1e17, 1.0), (1e17, 2.0)], [1]),
        ([(-5,), (-2,), (-9,)], [1]),
        ([], []),
    ],
)
def test_fronts_by_hand(rows, expected):
    assert front(vectors(*rows)) == expected


def test_wins_by_hand():
    assert wins(vectors((1, 0, 2), (0, 1, 2), (0.5, 0.5, None))) == [{0, 2}, {1, 2}, set()]


rows = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 3))] * width), min_size=1, max_size=12)
)


@given(rows)
def test_a_front_covers_everything_and_nothing_in_it_covers_another(given_rows):
    full = [tuple(-math.inf if s is None else s for s in row) for row in given_rows]

    def covers(one, other):
        return all(a >= b for a, b in zip(one, other, strict=True))

    kept = front(vectors(*given_rows))
    assert all(any(covers(full[j], row) for j in kept) for row in full)
    assert not any(covers(full[i], full[j]) for i in kept for j in kept if i != j)
    best_somewhere = {c for coordinates in wins(vectors(*given_rows)) for c in coordinates}
    among = wins([vectors(*given_rows)[i] for i in kept])
    assert {c for coordinates in among for c in coordinates} == best_somewhere


def test_coordinates_are_examples_and_objectives():
    judged = [Feedback({"right": 1, "short": 0.5}), Feedback(text="it failed"), Feedback({"right": 0})]
    assert vector_of((3, 4, 7), judged) == {(3, "right"): 1, (3, "short"): 0.5, (7, "right"): 0}
    assert objectives(judged) == {"right": 0.5, "short": 0.5}
    assert vector_of((0,), [Feedback(0.25)]) == {(0, "score"): 0.25}
