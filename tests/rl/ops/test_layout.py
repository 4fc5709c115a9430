"""Prefix trees: by hand, and against the definition on random sequences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from rl.ops.layout import row_batches, row_layout, tree_batches, tree_layout, tree_size

sequences = st.lists(st.integers(0, 2), max_size=5)
pairs_of = st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=4), sequences), min_size=1, max_size=6)


def prefixes(pairs):
    return {(*prompt, *completion)[: n + 1] for prompt, completion in pairs for n in range(len(prompt + completion))}


def test_tree_by_hand():
    """5 6 -> 7 8 | 7 9 | 7 8: nodes 5 6 7 8 9, and the leaves 8 and 9 are not forwarded."""
    layout = tree_layout([((5, 6), (7, 8)), ((5, 6), (7, 9)), ((5, 6), (7, 8))])
    assert layout.ids.tolist() == [[5, 6, 7]]
    assert layout.positions.tolist() == [[0, 1, 2]]
    assert layout.ends.tolist() == [3, 3, 3]
    assert layout.keep.tolist() == [1, 2]
    assert layout.place.tolist() == [0, 1, 1]
    assert layout.token.tolist() == [7, 8, 9]
    assert layout.index.tolist() == [[0, 1], [0, 2], [0, 1]]


def test_two_prompts_share_what_they_begin_with():
    layout = tree_layout([((1, 2), (4, 6)), ((1, 3), (5, 6))])
    assert layout.ids.tolist() == [[1, 2, 4, 3, 5]]
    assert layout.positions.tolist() == [[0, 1, 2, 1, 2]]
    assert layout.ends.tolist() == [5, 3, 3, 5, 5]


def test_rows_by_hand():
    layout = row_layout([((5, 6), (7, 8)), ((5,), (9,)), ((4, 4), ())], pad_id=3)
    assert layout.ids.tolist() == [[5, 6, 7], [5, 3, 3], [4, 4, 3]]
    assert layout.padding.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert layout.keep.tolist() == [1, 2, 3]
    assert layout.token.tolist() == [7, 8, 9]
    assert layout.index.tolist() == [[0, 1], [2, 3], [3, 3]]


@given(pairs_of)
def test_a_token_sees_its_own_prefix_and_nothing_else(pairs):
    layout = tree_layout(pairs)
    ids, ends = layout.ids[0].tolist(), layout.ends.tolist()
    seen = [tuple(ids[k] for k in range(len(ids)) if k <= q < ends[k]) for q in range(len(ids))]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= prefixes(pairs)
    assert layout.positions[0].tolist() == [len(prefix) - 1 for prefix in seen]
    for row, (prompt, completion) in enumerate(pairs):
        for t, token in enumerate(completion):
            m = layout.index[row, t]
            assert layout.token[m] == token
            assert seen[layout.keep[layout.place[m]]] == (*prompt, *completion[:t])
        assert (layout.index[row, len(completion) :] == len(layout.token)).all()


@given(pairs_of)
def test_rows_point_at_the_token_before(pairs):
    layout = row_layout(pairs)
    flat = layout.ids.flatten().tolist()
    width = layout.ids.shape[1]
    for row, (prompt, completion) in enumerate(pairs):
        for t, token in enumerate(completion):
            m = layout.index[row, t]
            place = layout.keep[layout.place[m]]
            assert (layout.token[m], place) == (token, row * width + len(prompt) + t - 1)
            assert flat[row * width : place + 1] == [*prompt, *completion[:t]]


@given(pairs_of, st.integers(1, 12))
def test_every_rollout_is_in_one_batch_and_batches_hold_the_budget(pairs, budget):
    for batches, size in (
        (tree_batches(pairs, budget), lambda chosen: tree_size(chosen)),
        (row_batches(pairs, budget), lambda chosen: len(chosen) * max(len(p) + len(c) for p, c in chosen)),
    ):
        assert sorted(i for batch in batches for i in batch) == list(range(len(pairs)))
        for batch in batches:
            assert len(batch) == 1 or size([pairs[i] for i in batch]) <= budget


@given(pairs_of)
def test_size_is_the_number_of_distinct_prefixes(pairs):
    assert tree_size(pairs) == len(prefixes(pairs))
    assert tree_layout(pairs).ids.numel() <= tree_size(pairs)


def test_places_ascend():
    """Chunks of the LM head rely on it."""
    layout = tree_layout([((1,), (2, 3, 4)), ((1,), (5, 6)), ((1, 2), (3, 9))])
    assert torch.equal(layout.place, layout.place.sort().values)


@pytest.mark.parametrize("layout", [tree_layout, row_layout])
def test_an_empty_prompt_is_refused(layout):
    with pytest.raises(InputError, match="rollout 1 has an empty prompt"):
        layout([((1,), (2,)), ((), (2,))])
