"""Agreement: published values, hand calculations, and what scipy gives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.ranking import Ranking
from engine.ranking.agreement import against_others, agreement, kendall_w, krippendorff_alpha, midranks, tau_b
from tests.engine.ranking.voting import vote

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
UNITS = [[int(v) for v in unit if v != "."] for unit in zip(*(row.split() for row in OBSERVERS), strict=True)]

levels = st.lists(st.integers(0, 3), min_size=4, max_size=4)


def ranks_of(values: list[int]) -> list[float]:
    return [float(rank) for rank in stats.rankdata(values)]


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_own_example(metric, published):
    assert krippendorff_alpha(UNITS, metric) == pytest.approx(published, abs=0.0005)


def test_alpha_of_two_observers_by_hand():
    """Krippendorff 2011, section A: binary data of two observers on ten units, alpha = 0.095."""
    units = list(zip((0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0), strict=True))
    assert krippendorff_alpha(units, "nominal") == pytest.approx(0.095, abs=0.0005)
    assert krippendorff_alpha(units, "ordinal") == pytest.approx(0.095, abs=0.0005)


def test_alpha_is_undefined_where_there_is_nothing_to_tell_it_by():
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([[1], [2]]) is None
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None


def test_midranks_are_those_of_scipy():
    ranking = Ranking([["c"], ["a", "d"]], ["b", "e"])
    assert midranks(ranking, "abcde") == [2.5, 4.5, 1, 2.5, 4.5] == list(stats.rankdata([1, 2, 0, 1, 2]))


@given(st.lists(levels, min_size=2, max_size=5))
def test_w_with_ties_is_friedmans_chi_square(rows):
    """W = chi^2 / (m (n - 1)), of annotators as blocks (Kendall and Gibbons 1990); scipy corrects it for ties."""
    ranks = [ranks_of(row) for row in rows]
    if all(len(set(row)) == 1 for row in rows):
        assert kendall_w(ranks) is None
        return
    chi2 = stats.friedmanchisquare(*zip(*rows, strict=True)).statistic
    assert kendall_w(ranks) == pytest.approx(chi2 / (len(rows) * 3), abs=1e-9)


def test_w_by_hand():
    """Ranks 1 2 3, 1 2 3, 3 2 1: column sums 5, 6, 7, so S about the mean is 2 and W = 12 * 2 / (9 * 24) = 1 / 9."""
    assert kendall_w([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) == pytest.approx(1 / 9)
    assert kendall_w([[1, 2.5, 2.5]] * 3) == pytest.approx(1)
    assert kendall_w([[1, 2, 3], [3, 2, 1]]) == pytest.approx(0)
    assert kendall_w([[1, 2, 3]]) is None and kendall_w([]) is None


@given(levels, levels)
def test_tau_b_is_scipys(one, other):
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert tau_b(one, other) is None
    else:
        assert tau_b(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


def test_the_same_said_by_all_is_full_agreement():
    votes = [vote(q, name, tiers) for q, tiers in (("1", "abc"), ("2", "cabd")) for name in ("ann", "bob", "cem")]
    found = agreement(votes)
    assert (found.questions, found.kendall_w, found.spearman, found.alpha) == (2, *[pytest.approx(1)] * 3)
    assert against_others(votes) == {name: pytest.approx(1) for name in ("ann", "bob", "cem")}


def test_by_chance_rho_and_alpha_are_near_zero_and_w_is_one_over_the_annotators():
    rng = random.Random(0)
    votes = [vote(str(q), name, rng.sample("abcde", 5)) for q in range(300) for name in ("ann", "bob", "cem", "dee")]
    found = agreement(votes)
    assert found.kendall_w == pytest.approx(1 / 4, abs=0.03)
    assert found.spearman == pytest.approx(0, abs=0.04)
    assert found.alpha == pytest.approx(0, abs=0.04)
    assert all(tau == pytest.approx(0, abs=0.1) for tau in against_others(votes).values())


def test_rho_is_the_mean_of_scipys_over_pairs():
    rows = ["abcd", "bacd", "dabc"]
    found = agreement([vote("1", str(n), row) for n, row in enumerate(rows)])
    ranks = [[row.index(one) for one in "abcd"] for row in rows]
    pairs = [stats.spearmanr(ranks[i], ranks[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.spearman == pytest.approx(sum(pairs) / 3)


def test_who_stands_alone_is_seen():
    votes = [vote(str(q), name, "abcd") for q in range(3) for name in ("ann", "bob", "eve")]
    votes += [vote(str(q), "cem", "dcba") for q in range(3)] + [vote("9", "dee", "abcd")]
    assert against_others(votes) == {"ann": 1, "bob": 1, "eve": 1, "cem": -1, "dee": None}


def test_others_who_cancel_out_say_nothing():
    votes = [vote("1", "ann", "abc"), vote("1", "bob", "abc"), vote("1", "cem", "cba")]
    assert against_others(votes) == {"ann": None, "bob": None, "cem": -1}


def test_what_cannot_be_compared_is_left_out():
    votes = [vote("1", "ann", "abc"), vote("1", "bob", "cannot", "abc"), vote("2", "ann", "ab")]
    votes += [vote("1-again", "ann", "cba", original="1")]
    found = agreement(votes)
    assert (found.questions, found.kendall_w, found.spearman, found.alpha) == (0, None, None, None)
    assert against_others(votes) == {"ann": None, "bob": None}
