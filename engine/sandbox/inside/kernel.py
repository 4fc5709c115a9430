"""Calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os

__all__ = ["libc", "prctl", "syscall"]

libc = ctypes.CDLL(None, use_errno=True)
_LONG = ctypes.c_long


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with up to four arguments; raises OSError."""
    given = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(libc.prctl(ctypes.c_int(option), *given), f"prctl {option}")


def syscall(name: str, number: int, *arguments: object) -> int:
    """The system call; integers are passed as long, other arguments as ctypes passes them. Raises OSError."""
    given = [_LONG(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(libc.syscall(_LONG(number), *given), name)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
