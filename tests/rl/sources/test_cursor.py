"""The shuffled walk: every item once an epoch, and exactly where it was after a resume."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CheckpointError
from rl.sources._cursor import Cursor


@given(
    size=st.integers(1, 30),
    seed=st.integers(0, 5),
    steps=st.lists(st.integers(0, 40), max_size=8),
    cut=st.integers(0, 8),
)
def test_a_resumed_walk_goes_on_as_if_never_stopped(size, seed, steps, cut):
    whole, first = Cursor(size, seed), Cursor(size, seed)
    expected = [whole.take(n) for n in steps]
    taken = [first.take(n) for n in steps[:cut]]
    second = Cursor(size, seed + 1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert taken + [second.take(n) for n in steps[cut:]] == expected


@given(size=st.integers(1, 30), batch=st.integers(1, 7))
def test_every_epoch_has_every_item_once(size, batch):
    cursor = Cursor(size, 3)
    walk = [i for _ in range(3 * size) for i in cursor.take(batch)]
    for start in range(0, len(walk) - size + 1, size):
        assert sorted(walk[start : start + size]) == list(range(size))


def test_epochs_and_seeds_have_orders_of_their_own():
    cursor = Cursor(50, 0)
    assert len({tuple(cursor.take(50)), tuple(cursor.take(50)), tuple(Cursor(50, 1).take(50))}) == 3


def test_a_state_of_other_data_is_refused():
    with pytest.raises(CheckpointError, match="80 training prompts, and there are 81 now"):
        Cursor(81, 0).load_state_dict(Cursor(80, 0).state_dict())
