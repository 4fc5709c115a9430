"""What the code that runs now belongs to: nothing, a recording, or the body of a node function."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol


class State(Protocol):
    """A recording (tracer.Graph) or the body of a node function (call.Body)."""

    is_recording: bool

    def read(self, operand: Any) -> None:
        """Take note that the plain value of a node or parameter was read."""

    def apply(self, op: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """function(*args, **kwargs) on plain values; in a recording a node of `op`."""


# A ContextVar, so that threads and asyncio tasks have each their own; None: nothing is recorded.
STATE: ContextVar[State | None] = ContextVar("engine.trace.state", default=None)
