"""How many requests may be under way, and how many may start in a minute."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from engine.errors import InputError


class RateLimit:
    """Holds callers back so that an endpoint's limits are kept. Safe to use from several threads.

    max_concurrency: requests under way at a time; max_per_minute: requests started in any 60
    seconds. None: no limit. Callers wait, first come first served for the minute's slots.
    """

    def __init__(
        self,
        *,
        max_concurrency: int | None = None,
        max_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for name, value in (("max_concurrency", max_concurrency), ("max_per_minute", max_per_minute)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}", allowed="a whole number of at least 1, or None")
        self._slots = threading.BoundedSemaphore(max_concurrency) if max_concurrency else contextlib.nullcontext()
        self._max_per_minute, self._clock, self._sleep = max_per_minute, clock, sleep
        self._starts: deque[float] = deque(maxlen=max_per_minute)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may start; hold a place until it ends."""
        with self._slots:
            self._sleep(self._reserve())
            yield

    def _reserve(self) -> float:
        """Book the next free start; the seconds until then."""
        if self._max_per_minute is None:
            return 0.0
        with self._lock:
            now = self._clock()
            start = now
            if len(self._starts) == self._max_per_minute:
                start = max(now, self._starts[0] + 60.0)
            self._starts.append(start)
            return start - now
