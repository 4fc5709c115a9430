"""Facts of preferences as numbers: symmetry, win rates, fair draws of opponents, cycles, exploitability."""

import collections
import itertools
import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from rl.ops.preference import cyclic_triples, exploitability, pairings, symmetrized, win_rates

NAN = math.nan
CYCLE = torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])


def matrices(k):
    row = st.lists(st.floats(0, 1), min_size=k, max_size=k)
    return st.lists(row, min_size=k, max_size=k).map(lambda rows: torch.tensor(rows, dtype=torch.float64))


@given(st.integers(2, 7).flatmap(matrices))
def test_win_rates_of_anything_sum_to_half_the_number(raw):
    fair = symmetrized(raw)
    k = len(raw)
    torch.testing.assert_close(fair + fair.T, torch.ones(k, k, dtype=torch.float64))
    assert torch.equal(fair.diagonal(), torch.full((k,), 0.5, dtype=torch.float64))
    rates = win_rates(raw)
    assert rates.shape == (k,) and rates.sum().item() == pytest.approx(k / 2)
    torch.testing.assert_close(rates, win_rates(fair))
    others = [[fair[i, j] for j in range(k) if j != i] for i in range(k)]
    assert rates.tolist() == pytest.approx([float(sum(row)) / (k - 1) for row in others])


def test_win_rates_by_hand():
    assert win_rates([[0, 1, 1], [0, 0, 1], [0, 0, 0]]).tolist() == [1.0, 0.5, 0.0]
    assert win_rates(numpy.array([[0.5, 0.8], [0.4, 0.5]])).tolist() == pytest.approx([0.7, 0.3])
    assert win_rates(CYCLE).tolist() == [0.5, 0.5, 0.5]
    torch.testing.assert_close(win_rates(CYCLE.repeat(2, 1, 1)), torch.full((2, 3), 0.5))


def test_what_nobody_said_is_left_out():
    """One order is enough for a pair; the last one was compared with none."""
    raw = torch.tensor([[0.5, 1.0, NAN, NAN], [NAN, 0.5, 0.3, NAN], [NAN, 0.5, 0.5, NAN], [NAN] * 4])
    rates = win_rates(raw)
    assert rates[:3].tolist() == pytest.approx([1.0, (0.0 + 0.4) / 2, 0.6])
    assert rates[3].isnan()


@pytest.mark.parametrize("wrong", [[0.5, 0.5], [[0.5, 0.5]], [[0.5, 1.5], [0.5, 0.5]], [[0.5, -0.1], [1.0, 0.5]],
                                   [[0.5, math.inf], [0.0, 0.5]], 0.5])  # fmt: skip
def test_what_is_no_preference_is_refused(wrong):
    with pytest.raises(InputError):
        win_rates(wrong)


@pytest.mark.parametrize("k", range(2, 10))
@pytest.mark.parametrize("opponents", [1, 2, 3, 4, 8, None])
def test_everyone_meets_equally_many_others_once(k, opponents):
    pairs = pairings(k, opponents, "seed")
    assert len(set(pairs)) == len(pairs) and all(i < j for i, j in pairs)
    met = collections.Counter(itertools.chain.from_iterable(pairs))
    wanted = k - 1 if opponents is None else min(opponents + (k * opponents) % 2, k - 1)
    assert [met[i] for i in range(k)] == [wanted] * k


def test_win_rates_over_a_few_opponents_are_unbiased():
    """Their mean over all draws is that over all siblings; 3 of 5 others, so each pair is drawn 3 times in 5."""
    torch.manual_seed(0)
    full = symmetrized(torch.rand(6, 6, dtype=torch.float64))
    total, drawn, draws = torch.zeros(6, dtype=torch.float64), collections.Counter(), 2000
    for seed in range(draws):
        some = torch.full((6, 6), NAN, dtype=torch.float64)
        for i, j in pairings(6, 3, seed):
            some[i, j] = full[i, j]
            drawn[i, j] += 1
        total += win_rates(some)
    torch.testing.assert_close(total / draws, win_rates(full), atol=0.01, rtol=0)
    assert all(count / draws == pytest.approx(0.6, abs=0.05) for count in drawn.values()) and len(drawn) == 15


def brute_force(matrix):
    cycles = decided = 0
    for a, b, c in itertools.combinations(range(len(matrix)), 3):
        values = [float(matrix[x, y]) for x, y in ((a, b), (b, c), (c, a))]
        if all(value == value and value != 0.5 for value in values):
            decided += 1
            cycles += len({value > 0.5 for value in values}) == 1
    return cycles, decided


@given(st.integers(3, 7), st.integers(0, 2**31))
def test_cycles_are_counted(k, seed):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 3, (k, k), generator=generator) / 2
    raw[torch.rand(k, k, generator=generator) < 0.2] = NAN
    matrix = symmetrized(raw)
    assert cyclic_triples(matrix) == brute_force(matrix)


def test_rock_paper_scissors_is_a_cycle_and_an_order_is_none():
    assert cyclic_triples(CYCLE) == (1, 1)
    assert cyclic_triples(symmetrized(torch.ones(5, 5).triu(1))) == (0, 10)


def test_exploitability_by_hand():
    """Always rock loses to paper; the uniform policy to nothing; half rock, half paper: paper gains 1/4."""
    policies = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(exploitability(policies, CYCLE), torch.tensor([0.5, 0.0, 0.25]))
