"""What one child is given, and what comes back of it before anybody has read it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Answer", "Job"]


@dataclass(frozen=True)
class Job:
    """A program with its arguments, and its limits."""

    data: bytes  # of `codec`: source, function or None, args, kwargs
    seconds: float
    memory: int  # bytes
    output: int  # bytes of output, and of the encoded result


@dataclass(frozen=True)
class Answer:
    """Bytes of the result pipe and of the output, and how the child ended."""

    result: bytes
    output: bytes
    seconds: float
    status: int | None  # as of wait(2); None where the warm process was lost with the child
    is_late: bool
    is_over: bool  # too much output or too large a result
