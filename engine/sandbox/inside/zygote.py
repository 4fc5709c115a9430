"""The warm process: has the standard library loaded, and forks a child for each program.

It never sees a program: the child reads it itself, so nothing of one task lies in memory that the next one inherits.
It has one thread, so that a fork is sound. It ends, and its child with it, when the host does.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn, TextIO, cast

from engine.sandbox.inside import lockdown, program, protocol, stdlib
from engine.sandbox.inside.codec import encode

__all__ = ["main"]

_RESULT, _JOB = 3, 4
_ASIDE, _MOST = 200, 256  # descriptors for a moment; more than the warm process ever has
_READ_AT_ONCE = 2**20


def main(settings: dict[str, Any]) -> NoReturn:
    """Serve until the host is gone. `settings`: tier, control and host (descriptors), scratch (bytes of a file)."""
    namespaces, confined = settings["tier"] == "namespaces", settings["tier"] != "unsafe"
    control = socket.socket(fileno=settings["control"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST, _MOST))
    stdlib.preload()
    if confined:
        if namespaces:
            lockdown.mount_scratch(settings["scratch"])
            os.chdir(lockdown.SCRATCH)
        lockdown.protect()
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # what `site` does, which is not loaded
    for name in [name for name in sys.modules if name.partition(".")[0] == "engine"]:
        del sys.modules[name]
    os.environ.clear()
    confinement = lockdown.Lockdown(namespaces=namespaces) if confined else None
    control.sendall(protocol.READY)
    _Zygote(control, settings["host"], confinement, settings["scratch"]).serve()


class _Zygote:
    """The loop over the host's orders."""

    def __init__(
        self, control: socket.socket, host: int | None, confinement: lockdown.Lockdown | None, scratch: int
    ) -> None:
        self.control, self.confinement, self.host, self.file_size = control, confinement, host, scratch
        self.scratch = lockdown.SCRATCH if confinement is not None and confinement.scratch else None
        self.ended, wake = os.pipe()
        for end in (self.ended, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.poll = select.poll()
        for descriptor in [self.control.fileno(), self.ended, *([] if host is None else [host])]:
            self.poll.register(descriptor, select.POLLIN)

    def serve(self) -> NoReturn:
        while True:
            self.wait(None)
            order, descriptors, _, _ = socket.recv_fds(self.control, protocol.ORDER.size, 3)
            if len(order) < protocol.ORDER.size:
                os._exit(0)
            what, number, seconds, memory, limit = protocol.ORDER.unpack(order)
            if what == protocol.RUN:
                self.run(number, seconds, memory, limit, descriptors)

    def run(self, number: int, seconds: float, memory: int, limit: int, descriptors: list[int]) -> None:
        """Fork, watch, and report how it ended."""
        start, parent = time.monotonic(), os.getpid()
        child = os.fork()
        if child == 0:
            try:
                _child(descriptors, self.confinement, parent, seconds, memory, limit, self.file_size)
            finally:
                os._exit(70)
        for descriptor in descriptors:
            os.close(descriptor)
        status, is_late = self.watch(child, start + seconds)
        if self.scratch and os.listdir(self.scratch):
            os.chdir("/")
            lockdown.mount_scratch(self.file_size, again=True)
            os.chdir(self.scratch)
        self.control.sendall(protocol.STATUS.pack(number, status, is_late, time.monotonic() - start))

    def watch(self, child: int, deadline: float) -> tuple[int, bool]:
        """The child's wait status once it has ended, and whether it was killed for being late."""
        while True:
            is_order = self.wait(deadline, child)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, False
            is_late = time.monotonic() >= deadline
            if is_order or is_late:
                if is_order and not self.control.recv(protocol.ORDER.size):
                    self.leave(child)
                os.kill(child, signal.SIGKILL)
                return os.waitpid(child, 0)[1], is_late

    def wait(self, deadline: float | None, child: int | None = None) -> bool:
        """Wait for an order (True), the end of a child, or the deadline; if the host has gone, leave."""
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        while True:
            ready = dict(self.poll.poll(remaining))
            if self.ended in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.ended, 4096)
            if self.host is not None and self.host in ready:
                self.leave(child)
            if self.control.fileno() in ready:
                return True
            if deadline is not None:
                return False

    def leave(self, child: int | None) -> NoReturn:
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os._exit(0)


def _child(
    descriptors: list[int],
    confinement: lockdown.Lockdown | None,
    parent: int,
    seconds: float,
    memory: int,
    limit: int,
    file_size: int,
) -> NoReturn:
    """Give up everything, run the program, write its one frame, end. Nothing of the warm process is kept open."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _descriptors(*descriptors)
    try:
        lockdown.limit(seconds=seconds, memory=memory, file_size=file_size)
        if confinement is not None:
            confinement.enter(parent)
    except (OSError, ValueError) as error:
        _send(protocol.frame(protocol.SETUP, encode(("setup", str(error), "", ""), 2**16)))
        os._exit(0)
    output = sys.stdout  # the program may put something else in its place
    job = bytearray()
    while part := os.read(_JOB, _READ_AT_ONCE):
        job += part
    os.close(_JOB)
    result = program.answer(bytes(job), limit)
    with contextlib.suppress(Exception):
        output.flush()
    _send(result)
    os._exit(0)


def _descriptors(job: int, result: int, output: int) -> None:
    """0 is at its end, 1 and 2 are the output, 3 the result, 4 the job; no other is open."""
    empty, full = os.pipe()
    os.close(full)
    wanted = (empty, output, output, result, job)
    for place, descriptor in enumerate(wanted):  # away from the low numbers first, so that none is overwritten too soon
        os.dup2(descriptor, _ASIDE + place)
    for place in range(len(wanted)):
        os.dup2(_ASIDE + place, place, inheritable=False)
    os.closerange(len(wanted), _MOST)
    sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore


def _stream(descriptor: int, mode: str) -> TextIO:
    """A standard stream of the program; error is written line by line."""
    buffering = 1 if descriptor == 2 else -1
    stream = open(descriptor, mode, buffering, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    return cast(TextIO, stream)


def _send(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_RESULT, view) :]
