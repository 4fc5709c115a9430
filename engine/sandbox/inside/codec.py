"""Values as bytes, by exact built-in type: no pickle, no subclass, no method of the value is ever called.

One tag byte a value: N None, T True, F False, i int, f float, c complex, s str, b bytes, l list, t tuple, d dict,
S set, Z frozenset. Lengths are unsigned 32-bit numbers, integers two's complement, floats IEEE doubles;
all little-endian.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

__all__ = ["DEPTH", "BadBytes", "TooLarge", "Unencodable", "decode", "encode"]

DEPTH = 100  # containers inside one another
_LENGTH = struct.Struct("<I")
_DOUBLE = struct.Struct("<d")
_CHECK_EVERY = 256


class Unencodable(ValueError):
    """The value holds something that is not of a built-in type, or is nested too deeply."""


class TooLarge(ValueError):
    """The value takes more bytes than are allowed."""


class BadBytes(ValueError):
    """The bytes are not what `encode` writes."""


def encode(value: Any, limit: int) -> bytes:
    """The value as at most `limit` bytes; raises `Unencodable` with what cannot be sent and where, or `TooLarge`."""
    out = bytearray()
    _write(value, out, limit, 0)
    return bytes(out)


def _write(value: Any, out: bytearray, limit: int, depth: int) -> None:
    kind = type(value)
    if kind in _WORDS:
        out += _WORDS[kind](value)
    elif kind in _CONTAINERS:
        _write_container(value, kind, out, limit, depth)
    else:
        # type.__name__ of a class of the program's own is whatever it says: for people only
        raise Unencodable(f"an object of type {type.__dict__['__name__'].__get__(kind)!s:.80}")
    if len(out) > limit:
        raise TooLarge(f"more than {limit} bytes")


def _write_container(value: Any, kind: type, out: bytearray, limit: int, depth: int) -> None:
    if depth >= DEPTH:
        raise Unencodable(f"containers nested more than {DEPTH} deep, or a container that holds itself")
    out += _CONTAINERS[kind] + _LENGTH.pack(len(value))
    at: Any = 0
    try:
        if kind is dict:
            for at, item in value.items():
                _write(at, out, limit, depth + 1)
                _write(item, out, limit, depth + 1)
        else:
            for item in value:
                _write(item, out, limit, depth + 1)
                at += 1
    except Unencodable as error:
        if depth < 5 and type(at) in (int, str):
            raise Unencodable(f"{error} in [{at!r:.40}]") from None
        raise


def _int(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"i" + _LENGTH.pack(size) + value.to_bytes(size, "little", signed=True)


def _float(value: float) -> bytes:
    return b"f" + _DOUBLE.pack(value)


def _complex(value: complex) -> bytes:
    return b"c" + _DOUBLE.pack(value.real) + _DOUBLE.pack(value.imag)


def _str(value: str) -> bytes:
    try:
        data = value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unencodable("a str with a lone surrogate, which is no text") from None
    return b"s" + _LENGTH.pack(len(data)) + data


def _bytes(value: bytes) -> bytes:
    return b"b" + _LENGTH.pack(len(value)) + value


_WORDS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
}
_CONTAINERS: dict[type, bytes] = {list: b"l", tuple: b"t", dict: b"d", set: b"S", frozenset: b"Z"}


def decode(data: bytes) -> Any:
    """The value of `encode`'s bytes; raises `BadBytes` for anything else.

    The bytes may be an attacker's: keys that collide on purpose make a dict quadratic. So reading may take half a
    second of processor time and another second for each MiB, several times what the slowest honest bytes take.
    """
    reader = _Reader(data, 0.5 + len(data) / 2**20)
    try:
        value = reader.value(0)
    except (struct.error, UnicodeDecodeError, TypeError, IndexError) as error:
        raise BadBytes(f"{type(error).__name__} at byte {reader.at}") from None
    if reader.at != len(data):
        raise BadBytes(f"{len(data) - reader.at} bytes too many")
    return value


class _Reader:
    """A place in the bytes."""

    def __init__(self, data: bytes, cpu_s: float) -> None:
        self.data, self.at, self.steps = data, 0, 0
        self.end = time.thread_time() + cpu_s

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise BadBytes(f"cut off at byte {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def length(self) -> int:
        return int(_LENGTH.unpack(self.take(4))[0])

    def double(self) -> float:
        return float(_DOUBLE.unpack(self.take(8))[0])

    def value(self, depth: int) -> Any:
        self.steps += 1
        if self.steps % _CHECK_EVERY == 0 and time.thread_time() > self.end:
            raise BadBytes("it takes too long to read")
        tag = self.take(1)
        if tag in _READ:
            return _READ[tag](self)
        if tag not in _FILL:
            raise BadBytes(f"unknown tag {tag!r} at byte {self.at - 1}")
        if depth >= DEPTH:
            raise BadBytes("nested too deeply")
        return _FILL[tag](self, depth + 1)

    def integer(self) -> int:
        return int.from_bytes(self.take(self.length()), "little", signed=True)

    def text(self) -> str:
        return self.take(self.length()).decode("utf-8")

    def items(self, depth: int) -> list[Any]:
        return [self.value(depth) for _ in range(self.length())]

    def mapping(self, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        size = self.length()
        for _ in range(size):
            key = self.value(depth)
            found[key] = self.value(depth)
        self.check(found, size)
        return found

    def members(self, depth: int) -> set[Any]:
        found: set[Any] = set()
        size = self.length()
        for _ in range(size):
            found.add(self.value(depth))
        self.check(found, size)
        return found

    def check(self, found: dict[Any, Any] | set[Any], size: int) -> None:
        if len(found) != size:
            raise BadBytes("a key twice")


_READ: dict[bytes, Callable[[_Reader], Any]] = {
    b"N": lambda reader: None,
    b"T": lambda reader: True,
    b"F": lambda reader: False,
    b"i": _Reader.integer,
    b"f": _Reader.double,
    b"c": lambda reader: complex(reader.double(), reader.double()),
    b"s": _Reader.text,
    b"b": lambda reader: reader.take(reader.length()),
}
_FILL: dict[bytes, Callable[[_Reader, int], Any]] = {
    b"l": _Reader.items,
    b"t": lambda reader, depth: tuple(reader.items(depth)),
    b"d": _Reader.mapping,
    b"S": _Reader.members,
    b"Z": lambda reader, depth: frozenset(reader.members(depth)),
}
