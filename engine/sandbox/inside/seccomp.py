"""The filter of system calls: an allow-list as a classic BPF program, see seccomp(2) of the Linux manual.

Anything else fails with EPERM, so that a program sees a PermissionError; clone3 with ENOSYS, so that libc falls back to
clone, which fails with EPERM. A call by another machine's numbers (32 bit, x32) kills the process.
"""

from __future__ import annotations

import ctypes
import os
import struct

from engine.sandbox.inside.kernel import prctl
from engine.sandbox.inside.syscalls import ALWAYS, ARCHITECTURES, CHECKED, FILES, Numbers

__all__ = ["Filter"]

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_REFUSE, _UNKNOWN = 0x00050000 | 1, 0x00050000 | 38  # errors EPERM and ENOSYS
_X32 = 0x40000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_OWN = -1  # stands for the process's own id until the filter is installed
_TCGETS, _FIONCLEX, _FIOCLEX = 0x5401, 0x5450, 0x5451
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 1030

# call: what its arguments must be, as (which argument, allowed values); of numbers the lower half is compared,
# as the kernel does for these, which are int. F_SETOWN, F_SETSIG and F_SETLEASE would signal others.
_CONDITIONS: dict[str, list[tuple[int, tuple[int, ...]]]] = {
    "kill": [(0, (_OWN,))],
    "tgkill": [(0, (_OWN,))],
    "ioctl": [(1, (_TCGETS, _FIONCLEX, _FIOCLEX))],
    "fcntl": [(1, (_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC))],
    "sched_getaffinity": [(0, (0,))],
}

Instruction = tuple[int, int, int, int]


class Filter:
    """A filter for this machine, made once and installed in each child with that child's process id."""

    def __init__(self, *, files: bool) -> None:
        machine = os.uname().machine
        if machine not in ARCHITECTURES:
            raise OSError(f"no filter of system calls is written for {machine}; there is one for x86_64 and aarch64")
        arch, self._column = ARCHITECTURES[machine]
        program: list[Instruction] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL)]
        program += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
        for number in self._numbers({**ALWAYS, **(FILES if files else {})}).values():
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
        for name, number in self._numbers(CHECKED).items():
            body = self._checks(name)
            program += [(_EQUAL, 0, len(body), number), *body]
        self.program = [*program, (_RETURN, 0, 0, _REFUSE)]

    def _numbers(self, table: Numbers) -> dict[str, int]:
        found = {name: numbers[self._column] for name, numbers in table.items()}
        return {name: number for name, number in found.items() if number is not None}

    @staticmethod
    def _checks(name: str) -> list[Instruction]:
        """What follows once the number is that of the call: it ends in a return on every path."""
        if name == "clone3":
            return [(_RETURN, 0, 0, _UNKNOWN)]
        if name == "prlimit64":  # of oneself, and without a new limit: a null pointer, both halves
            places = [_argument(0), _argument(2), _argument(2) + 4]
            body = [
                step for place in places for step in ((_LOAD, 0, 0, place), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE))
            ]
            return [*body, (_RETURN, 0, 0, _ALLOW)]
        body = []
        for which, values in _CONDITIONS[name]:
            body.append((_LOAD, 0, 0, _argument(which)))
            for value in values:
                body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        return [*body, (_RETURN, 0, 0, _REFUSE)]

    def install(self) -> None:
        """Put the filter on this process for good. Needs no_new_privs. Raises OSError."""
        own = os.getpid()
        code = b"".join(struct.pack("<HBBI", op, yes, no, own if k == _OWN else k) for op, yes, no, k in self.program)
        buffer = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(self.program), ctypes.addressof(buffer))
        pointer = ctypes.create_string_buffer(header, len(header))
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(pointer))


def _argument(which: int) -> int:
    """Offset of the lower half of an argument; both machines are little-endian."""
    return _ARGUMENTS + 8 * which
