"""Landlock: no file may be opened but under one folder, no TCP, no signal or abstract socket to the outside.

See landlock(7) of the Linux manual. A kernel that knows less gets less; `version` says how much it knows.
"""

from __future__ import annotations

import os
import struct
from ctypes import create_string_buffer

from engine.sandbox.inside.kernel import syscall

__all__ = ["restrict", "version"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every machine
_VERSION_FLAG, _PATH_BENEATH = 1, 1

# Rights over files by the version that brought them: 13 at first, then REFER, TRUNCATE and IOCTL_DEV.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_EXECUTE, _MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = 1, 1 << 6, 1 << 9, 1 << 10, 1 << 11, 1 << 12
_IOCTL_DEV = 1 << 15
_NEVER = _EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_FIFO | _MAKE_BLOCK | _MAKE_SYM | _IOCTL_DEV
_NET_RIGHTS = 3  # bind and connect of TCP, from version 4
_SCOPES = 3  # abstract sockets and signals, from version 6


def version() -> int:
    """The version that the kernel offers; 0 where there is none or it is switched off."""
    try:
        return syscall("landlock_create_ruleset", _CREATE, 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(offered: int, folder: str | None) -> None:
    """Confine this process for good, at what the kernel offers (at least 1). Needs no_new_privs. Raises OSError."""
    files = _FILE_RIGHTS[min(offered, max(_FILE_RIGHTS))]
    attributes = struct.pack("<QQQ", files, _NET_RIGHTS if offered >= 4 else 0, _SCOPES if offered >= 6 else 0)
    size = 24 if offered >= 6 else 16 if offered >= 4 else 8
    ruleset = syscall("landlock_create_ruleset", _CREATE, create_string_buffer(attributes[:size], size), size, 0)
    try:
        if folder is not None:
            _allow(ruleset, folder, files & ~_NEVER)
        syscall("landlock_restrict_self", _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, folder: str, rights: int) -> None:
    parent = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", rights, parent)
        syscall("landlock_add_rule", _ADD, ruleset, _PATH_BENEATH, create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(parent)
