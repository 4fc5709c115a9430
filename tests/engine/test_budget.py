from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.budget import Budget, Ledger, LimitReached
from engine.errors import BudgetSpent, InputError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_reserve_takes_all_amounts_or_none():
    ledger = Ledger(Budget(calls=2, tokens=100))
    ledger.reserve(calls=1, tokens=60)
    with pytest.raises(LimitReached, match="budget of tokens is spent: 60 of 100, and 60 more") as caught:
        ledger.reserve(calls=1, tokens=60)
    assert caught.value.limit == "tokens"
    assert isinstance(caught.value, BudgetSpent) and caught.value.exit_code == 4
    assert ledger.spent()["calls"] == 1


def test_refund_makes_room_again():
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve(tokens=100)
    ledger.charge(tokens=-40)
    ledger.reserve(tokens=40)
    assert ledger.left("tokens") == 0
    assert ledger.exhausted() == "tokens"


def test_parallel_reservations_never_overspend():
    ledger = Ledger(Budget(runs=100))

    def take(_: int) -> bool:
        try:
            ledger.reserve(runs=1)
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(500))) == 100


def test_seconds_count_wall_time_and_go_on_after_a_load():
    clock = Clock()
    ledger = Ledger(Budget(seconds=10), clock=clock)
    clock.now = 4
    assert ledger.spent()["seconds"] == 4
    resumed = Ledger(Budget(seconds=10), clock=clock)
    resumed.load(ledger.spent())
    clock.now = 9
    assert resumed.spent()["seconds"] == 9
    clock.now = 10
    assert resumed.exhausted() == "seconds"
    with pytest.raises(LimitReached, match="seconds"):
        resumed.reserve(calls=1)


def test_no_limit_is_infinite_and_invalid_is_always_limited():
    ledger = Ledger(Budget(evaluations=None))
    assert ledger.left("evaluations") == math.inf
    assert ledger.left("invalid") < math.inf
    assert ledger.exhausted() is None
    with pytest.raises(InputError, match="invalid is None"):
        Budget(invalid=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"calls": -1}, {"usd": "5"}, {"steps": True}])
def test_a_bad_limit_is_refused(bad):
    with pytest.raises(InputError, match="allowed: a number >= 0"):
        Budget(**bad)


def test_a_mapping_becomes_a_budget_and_a_misspelt_limit_is_named():
    assert Budget.of({"calls": 3}) == Budget(calls=3)
    with pytest.raises(InputError, match="Did you mean 'tokens'"):
        Budget.of({"token": 3})
    with pytest.raises(InputError, match="allowed: Budget"):
        Budget.of(5)  # type: ignore[arg-type]
