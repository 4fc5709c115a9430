"""The filter, by an interpreter of BPF written from its definition (linux/filter.h, seccomp(2))."""

import os
import struct

import pytest

from engine.sandbox.inside import seccomp
from engine.sandbox.inside.seccomp import Filter
from engine.sandbox.inside.syscalls import ALWAYS, CHECKED, FILES

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
X86, ARM = 0xC000003E, 0xC00000B7


def verdict(program: list[tuple[int, int, int, int]], number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel would do with the call."""
    values = [value % 2**64 for value in (*args, *[0] * 6)[:6]]
    data = struct.pack("<IIQ6Q", number, arch, 0, *values)
    at = accumulator = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif code == 0x15:
            at += yes if accumulator == k else no
        elif code == 0x35:
            at += yes if accumulator >= k else no
        else:
            assert code == 0x06
            return k


@pytest.fixture(params=[("x86_64", X86), ("aarch64", ARM)], ids=lambda param: param[0])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    name, arch = request.param
    monkeypatch.setattr(seccomp.os, "uname", lambda: os.uname_result(("Linux", "", "", "", name)))
    return arch, 0 if name == "x86_64" else 1


@pytest.mark.parametrize("files", [False, True])
def test_what_is_on_no_list_is_refused(machine: tuple[int, int], files: bool) -> None:
    arch, column = machine
    program = Filter(files=files).program
    listed = {**ALWAYS, **(FILES if files else {})}
    allowed = {numbers[column] for numbers in listed.values()} - {None}
    checked = {numbers[column] for numbers in CHECKED.values()}
    for number in range(1000):
        if number in allowed:
            assert verdict(program, number, arch) == ALLOW
        elif number not in checked:
            assert verdict(program, number, arch, (os.getpid(),)) == EPERM
    for number in (0x40000000, 0x40000001, 0x40000000 + 520, 0xFFFFFFFF):
        assert verdict(program, number, arch) == KILL
    for other in {X86, ARM, 0x40000003, 0} - {arch}:
        assert verdict(program, next(iter(allowed)), other) == KILL


# Numbers from the manual pages and tables of the kernel (arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h).
DANGEROUS = {
    "clone": (56, 220), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "socket": (41, 198),
    "socketpair": (53, 199), "connect": (42, 203), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "io_uring_setup": (425, 425), "userfaultfd": (323, 282), "memfd_create": (319, 279),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "prctl": (157, 167),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "keyctl": (250, 219),
    "perf_event_open": (298, 241), "seccomp": (317, 277), "symlinkat": (266, 36), "linkat": (265, 37),
    "mknodat": (259, 33), "setuid": (105, 146), "setrlimit": (160, 164), "shmget": (29, 194),
    "pidfd_getfd": (438, 438), "openat2": (437, 437), "vmsplice": (278, 75), "chroot": (161, 51), "setsid": (112, 157),
    "timer_create": (222, 107),
}  # fmt: skip


@pytest.mark.parametrize("name", DANGEROUS)
def test_the_dangerous_calls_are_refused(machine: tuple[int, int], name: str) -> None:
    arch, column = machine
    assert verdict(Filter(files=True).program, DANGEROUS[name][column], arch, (0, 0, 0)) == EPERM


def test_calls_that_depend_on_their_arguments(machine: tuple[int, int]) -> None:
    arch, column = machine
    program = [(*rest, 4321 if k == seccomp._OWN else k) for *rest, k in Filter(files=False).program]  # as installed

    def call(name: str, *args: int) -> int:
        return verdict(program, CHECKED[name][column], arch, args)

    assert (call("kill", 4321, 9), call("tgkill", 4321, 4321, 6)) == (ALLOW, ALLOW)
    assert {call("kill", pid, 9) for pid in (0, 1, os.getpid(), 2**31)} == {EPERM}
    assert {call("tgkill", pid, pid, 9) for pid in (0, 1, os.getppid())} == {EPERM}
    assert call("clone3", 0, 0) == ENOSYS
    assert {call("fcntl", 1, command) for command in (0, 1, 2, 3, 1030)} == {ALLOW}
    assert {call("fcntl", 1, command) for command in (4, 8, 10, 15, 1024, 1031, 1033)} == {EPERM}
    assert call("ioctl", 1, 0x5401) == ALLOW  # TCGETS
    assert {call("ioctl", 1, request) for request in (0x5412, 0x8901, 0x541B, 0)} == {EPERM}  # TIOCSTI, FIOSETOWN...
    assert call("prlimit64", 0, 7, 0, 1) == ALLOW
    assert {call("prlimit64", *args) for args in ((0, 7, 1, 0), (1, 7, 0, 0), (0, 7, 2**32, 0))} == {EPERM}
    assert (call("sched_getaffinity", 0), call("sched_getaffinity", 1)) == (ALLOW, EPERM)


def test_no_filter_is_guessed_for_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.os, "uname", lambda: os.uname_result(("Linux", "", "", "", "riscv64")))
    with pytest.raises(OSError, match="riscv64"):
        Filter(files=False)
