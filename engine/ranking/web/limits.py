"""How much one visitor may ask for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class Buckets:
    """A token bucket a visitor: `rate` requests a second in the long run, `burst` at once; the `most` last visitors."""

    def __init__(
        self, rate: float, burst: float, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.burst, self.most, self.clock = rate, burst, most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, visitor: str) -> float:
        """0 where the visitor may go on, else the seconds after which they may."""
        now = self.clock()
        left, since = self._left.pop(visitor, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.rate)
        wait = 0.0 if left >= 1 else (1 - left) / self.rate
        self._left[visitor] = (left if wait else left - 1, now)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        return wait
