"""Whether a client may send another request for the same completion: who pays decides, the client asks.

One call of `complete` may take several requests: one to repair a malformed answer, or more where a server gives
fewer choices than it was asked for. The first is paid for before the call; each further one is asked for here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from engine.llm.base import Message

Allow = Callable[[Sequence[Message], int], bool]
"""(messages, n) -> whether a further request with them for n choices is paid for."""

_ALLOW: ContextVar[Allow | None] = ContextVar("engine.llm.allowance", default=None)


@contextmanager
def paid_by(allow: Allow) -> Iterator[None]:
    """Let `allow` decide about further requests of this context."""
    token = _ALLOW.set(allow)
    try:
        yield
    finally:
        _ALLOW.reset(token)


def is_paid(messages: Sequence[Message], n: int) -> bool:
    """Whether one more request may be sent; True where nobody counts."""
    allow = _ALLOW.get()
    return allow is None or allow(messages, n)
