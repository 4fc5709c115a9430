"""Display names: no two nodes of a recording share one."""

from __future__ import annotations

import threading


class Names:
    """Hands out names: 'ask_1', 'ask_2' for results, and given names as they are where they are free."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._claimed: set[str] = set()
        self._lock = threading.Lock()

    def next(self, stem: str) -> str:
        """The stem with the next number."""
        with self._lock:
            number = self._counts.get(stem, 0) + 1
            while (name := f"{stem}_{number}") in self._claimed:
                number += 1
            self._counts[stem] = number
        return name

    def claim(self, name: str) -> str:
        """The name itself, or with a number if a node already has it."""
        with self._lock:
            free, number = name, 2
            while self._is_taken(free):
                free, number = f"{name}_{number}", number + 1
            self._claimed.add(free)
        return free

    def _is_taken(self, name: str) -> bool:
        stem, _, digits = name.rpartition("_")
        is_numbered = digits.isdecimal() and not digits.startswith("0")
        return name in self._claimed or (is_numbered and int(digits) <= self._counts.get(stem, 0))
