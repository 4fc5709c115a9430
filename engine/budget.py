"""What an optimization may spend, and the account of what it spent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.errors import BudgetSpent, InputError, did_you_mean


@dataclass(frozen=True)
class Budget:
    """Limits of one optimization; None is no limit.

    evaluations: candidates evaluated; steps: calls of `propose`; runs: program runs, one for each
    new pair of candidate and example, the start's own runs included; calls, tokens, usd: what the
    proposing model costs (prompt and completion tokens; usd only where a price is known); seconds:
    wall time; human_minutes: the time of people who rank, as their form measures it; invalid: proposals
    that are refused or were seen before - always limited, so that a run ends even if no proposal is
    ever usable. The closing validation is counted apart, not limited.
    """

    evaluations: int | None = 64
    steps: int | None = None
    runs: int | None = None
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    human_minutes: float | None = None
    invalid: int = 64

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            number = isinstance(limit, int | float) and not isinstance(limit, bool) and limit >= 0
            if not number and (limit is not None or name == "invalid"):
                raise InputError(
                    f"budget {name} is {limit!r}",
                    allowed="a number >= 0" + ("" if name == "invalid" else ", or None for no limit"),
                )

    @classmethod
    def of(cls, value: Budget | Mapping[str, Any]) -> Budget:
        """A Budget from a Budget or a mapping of its limits. Raises InputError on an unknown limit."""
        if isinstance(value, Budget):
            return value
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise InputError(f"budget is {value!r}", allowed="Budget(...) or a mapping of " + ", ".join(names))
        for name in value:
            if name not in names:
                raise InputError(f"no budget '{name}'.{did_you_mean(name, names)}", allowed=", ".join(names))
        return cls(**value)


class LimitReached(BudgetSpent):
    """A budget is spent; `limit` names which."""

    def __init__(self, limit: str, message: str) -> None:
        self.limit = limit
        super().__init__(message, next_step=f"raise budget.{limit}, and resume the run folder if there is one")


class Ledger:
    """Amounts spent against a Budget. Safe to use from several threads.

    An amount is reserved before the work and the unused part refunded after it, so that work done
    in parallel cannot overspend together.
    """

    def __init__(self, budget: Budget, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self._limits: dict[str, float] = {k: math.inf if v is None else v for k, v in asdict(budget).items()}
        self._spent: dict[str, float] = dict.fromkeys(self._limits, 0)
        self._clock, self._started = clock, clock()
        self._lock = threading.Lock()

    def reserve(self, **amounts: float) -> None:
        """Take the amounts, all or none. Raises LimitReached naming the first limit that is too small."""
        with self._lock:
            for name, amount in amounts.items():
                if self._spent[name] + amount > self._limits[name]:
                    raise self._error(name, amount)
            self._check_time()
            self._add(amounts)

    def charge(self, **amounts: float) -> None:
        """Add to (or with negative amounts take from) what was spent, without asking for room."""
        with self._lock:
            self._add(amounts)

    def left(self, name: str) -> float:
        """What remains of a limit; infinite where there is none."""
        return self._limits[name] - self.spent()[name]

    def exhausted(self) -> str | None:
        """The first limit of which nothing is left, or None."""
        spent = self.spent()
        return next((name for name, limit in self._limits.items() if spent[name] >= limit), None)

    def spent(self) -> dict[str, float]:
        """What was spent of each kind, seconds included."""
        with self._lock:
            return {**self._spent, "seconds": self._seconds()}

    def load(self, spent: Mapping[str, float]) -> None:
        """Continue an earlier account; time counts on from its seconds."""
        with self._lock:
            self._spent.update({name: spent[name] for name in self._spent if name in spent})
            self._started = self._clock()

    def _add(self, amounts: Mapping[str, float]) -> None:
        for name, amount in amounts.items():
            self._spent[name] += amount

    def _seconds(self) -> float:
        return self._spent["seconds"] + self._clock() - self._started

    def _check_time(self) -> None:
        if self._seconds() >= self._limits["seconds"]:
            raise self._error("seconds", 0)

    def _error(self, name: str, amount: float) -> LimitReached:
        spent = self._seconds() if name == "seconds" else self._spent[name]
        more = f", and {amount:g} more would be needed" if amount else ""
        return LimitReached(name, f"the budget of {name} is spent: {spent:g} of {self._limits[name]:g}{more}")
