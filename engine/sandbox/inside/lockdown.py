"""What a child gives up before it reads a program: limits, user, capabilities, files, system calls; in that order."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
from ctypes import create_string_buffer

from engine.sandbox.inside import landlock
from engine.sandbox.inside.kernel import libc, prctl
from engine.sandbox.inside.seccomp import Filter

__all__ = ["SCRATCH", "Lockdown", "limit", "mount_scratch", "protect"]

SCRATCH = "/tmp"
_NOBODY = 65534
_MiB = 2**20
_STACK = 64 * _MiB
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 1, 4, 24, 28
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 38, 47, 4
_LOCKED_SECUREBITS = 0b11101111  # NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, all locked; KEEP_CAPS locked off
_CAPABILITY_VERSION = 0x20080522
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MNT_DETACH = 2, 4, 8, 2
_SCRATCH_INODES = 1024


def protect() -> None:
    """Keep others of the same user from tracing this process or reading its memory; give up regaining capabilities."""
    prctl(_PR_SET_DUMPABLE, 0)
    with contextlib.suppress(OSError):  # needs CAP_SETPCAP; without it there is no capability to regain
        prctl(_PR_SET_SECUREBITS, _LOCKED_SECUREBITS)
        for capability in range(64):  # up to the last that this kernel knows
            prctl(_PR_CAPBSET_DROP, capability)


def mount_scratch(size: int, *, again: bool = False) -> None:
    """Mount an empty folder of at most `size` bytes and 1024 files, in place of the last one if `again`."""
    if again and libc.umount2(SCRATCH.encode(), _MNT_DETACH):
        raise OSError("the scratch folder cannot be taken away")
    options = f"size={size},nr_inodes={_SCRATCH_INODES},mode=0700".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if libc.mount(b"scratch", SCRATCH.encode(), b"tmpfs", flags, options):
        raise OSError("no scratch folder can be mounted")


class Lockdown:
    """What every child goes through, prepared once."""

    def __init__(self, *, namespaces: bool) -> None:
        """With namespaces there is a scratch folder and paths may be named; without neither. Raises OSError."""
        self.filter = Filter(files=namespaces)
        self.landlock = landlock.version()
        self.scratch = SCRATCH if namespaces else None

    def enter(self, parent: int) -> None:
        """Confine this process for good. Raises OSError; a caller that gets one must not go on."""
        _drop_user()
        _drop_capabilities()
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise OSError("the parent is gone")
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if self.landlock:
            landlock.restrict(self.landlock, self.scratch)
        self.filter.install()


def limit(*, seconds: float, memory: int, file_size: int) -> None:
    """Set the limits of this process, soft and hard: processor seconds, bytes of memory and of a file, and the rest."""
    cpu = int(seconds) + 2
    _set("RLIMIT_CPU", cpu, cpu + 1)
    _set("RLIMIT_AS", memory)
    _set("RLIMIT_STACK", min(_STACK, memory // 4))
    _set("RLIMIT_FSIZE", file_size)
    _set("RLIMIT_NOFILE", 64)
    for name in ("CORE", "NPROC", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "NICE", "RTPRIO"):
        _set(f"RLIMIT_{name}", 0)


def _set(name: str, soft: int, hard: int | None = None) -> None:
    which = getattr(resource, name, None)
    if which is None:
        return
    ceiling = resource.getrlimit(which)[1]
    wanted = [soft, soft if hard is None else hard]
    if ceiling != resource.RLIM_INFINITY:
        wanted = [min(value, ceiling) for value in wanted]
    resource.setrlimit(which, (wanted[0], wanted[1]))


def _drop_user() -> None:
    """Root becomes nobody, where the kernel lets it: not in a namespace of one user, not without CAP_SETUID."""
    if os.getuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _drop_capabilities() -> None:
    with contextlib.suppress(OSError):
        prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    header = create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION, 0), 8)
    if libc.capset(header, create_string_buffer(24)):
        raise OSError("the capabilities cannot be dropped")
