from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.llm.limits import RateLimit


def test_starts_of_a_minute_are_spread() -> None:
    now, waits = [0.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    limit = RateLimit(max_per_minute=2, clock=lambda: now[0], sleep=sleep)
    for _ in range(5):
        with limit.slot():
            now[0] += 1.0
    # Starts at 0, 1, then a minute after each: 60, 61, 120.
    assert waits == [0.0, 0.0, 58.0, 0.0, 58.0]


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="max_per_minute is 0"):
        RateLimit(max_per_minute=0)
