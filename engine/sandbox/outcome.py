"""What came of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Fault", "Outcome"]


@dataclass(frozen=True)
class Fault:
    """Why a program gave no value.

    kind: "exception" (it raised), "syntax" (it is no Python), "value" (its result is not of built-in types, or there is
    none), "timeout", "memory", "output" (it printed or returned too much), "crash" (its process ended by itself),
    "protocol" (it wrote something of its own where its result goes), "refused" (it was not run).
    """

    kind: str
    text: str  # for people: "ValueError: x must be positive"; at most a few kB
    type: str = ""  # of an exception: the nearest built-in class, "ValueError" also for a subclass of it
    traceback: str = ""  # of an exception: the program's own frames, file "<program>", oldest first


@dataclass(frozen=True, repr=False)
class Outcome:
    """What came of a program: its value, or why there is none."""

    ok: bool
    value: (
        Any  # None, bool, int, float, complex, str, bytes, list, tuple, dict, set and frozenset of exactly these types
    )
    error: Fault | None
    stdout: str  # standard output and error, as they came
    seconds: float  # wall time, without waiting for a worker

    def __repr__(self) -> str:
        """As a dataclass's, and also where Python refuses to write out an integer of very many digits."""
        try:
            value = repr(self.value)
        except ValueError:
            value = f"<{type(self.value).__name__} with an integer of too many digits to write out>"
        said = f"error={self.error!r}, stdout={self.stdout!r}, seconds={self.seconds:.3f}"
        return f"Outcome(ok={self.ok}, value={value}, {said})"
