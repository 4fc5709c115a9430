"""The messages between the host, the warm process and its children; fixed layouts, nothing self-describing.

control socket, host to warm process    ORDER: RUN with three descriptors (job, result, output), or KILL
control socket, warm process to host    READY once, then one STATUS for each RUN
result pipe, child to host              exactly one frame: MAGIC, what it is (1 byte), length, payload of `codec`
"""

from __future__ import annotations

import struct
from typing import Any

from engine.sandbox.inside.codec import BadBytes, decode

__all__ = [
    "ERROR", "FRAME", "KILL", "MAGIC", "ORDER", "READY", "RUN", "SETUP", "STATUS", "VALUE", "frame", "parse_frame",
]  # fmt: skip

READY = b"ready"
RUN, KILL = 1, 2
ORDER = struct.Struct("<IIdQQ")  # RUN or KILL, number of the job, seconds, bytes of memory, bytes of a result
STATUS = struct.Struct("<IiBd")  # number of the job, wait status, whether it was out of time, seconds

MAGIC = b"\x93ENG"
FRAME = struct.Struct("<4s1sI")
VALUE, ERROR, SETUP = b"V", b"E", b"S"


def frame(what: bytes, payload: bytes) -> bytes:
    """One frame as bytes."""
    return FRAME.pack(MAGIC, what, len(payload)) + payload


def parse_frame(data: bytes) -> tuple[bytes, Any]:
    """What the one frame is, and its value: anything, or of ERROR and SETUP a tuple of four str. Raises `BadBytes`."""
    if len(data) < FRAME.size:
        raise BadBytes("no whole frame")
    magic, what, length = FRAME.unpack_from(data)
    if magic != MAGIC or what not in (VALUE, ERROR, SETUP):
        raise BadBytes("this is no frame")
    if length != len(data) - FRAME.size:
        raise BadBytes("not exactly one frame")
    value = decode(data[FRAME.size :])
    if what != VALUE and not (type(value) is tuple and len(value) == 4 and all(type(part) is str for part in value)):
        raise BadBytes("an error that is not four texts")
    return what, value
