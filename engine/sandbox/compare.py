"""Whether two values are the same, by exact built-in type: 1 is not True, and a NaN is itself."""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["same"]


def same(one: Any, other: Any) -> bool:
    """Whether two values of Outcomes are equal in value and type all the way down; the order of sets and dicts aside.

    No value is hashed or asked whether it is equal, so that keys that collide on purpose cost nothing more.
    """
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> bytes:
    """Bytes that are the same for the same values, and only for these."""
    kind = type(value)
    if kind is float:
        body = _number(value)
    elif kind is complex:
        body = _number(value.real) + _number(value.imag)
    elif kind is int:
        body = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    elif kind is str:
        body = value.encode("utf-8", "surrogatepass")
    elif kind in (list, tuple):
        body = b"".join(_canonical(item) for item in value)
    elif kind in (set, frozenset):
        body = b"".join(sorted(_canonical(item) for item in value))
    elif kind is dict:
        body = b"".join(sorted(_canonical(key) + _canonical(item) for key, item in value.items()))
    elif kind in (bool, bytes) or value is None:
        body = value if kind is bytes else repr(value).encode()
    else:
        raise TypeError(f"a {kind.__name__} is no value of an Outcome")
    return kind.__name__.encode() + b":" + struct.pack("<Q", len(body)) + body


def _number(value: float) -> bytes:
    if value != value:
        return b"nan"
    return struct.pack("<d", value + 0.0)  # so that -0.0 is 0.0
