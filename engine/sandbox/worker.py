"""The host's end of one warm process: start it, have it run jobs one at a time, end it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from typing import IO, cast

from engine.sandbox.inside import protocol
from engine.sandbox.job import Answer, Job
from engine.sandbox.outcome import Outcome
from engine.sandbox.reading import read_answer
from engine.sandbox.runner import RunnerLost, StartFailed
from engine.sandbox.spawn import Launch

__all__ = ["Worker"]

_START_S = 20.0
_GRACE_S = 2.0  # for the warm process to end a late child, before it is ended itself
_CHUNK = 2**16
_FRAME_ROOM = 2**15  # an error's frame may be larger than the value that is allowed


class Worker:
    """One warm process, a `Runner` of the tiers that are processes."""

    def __init__(self, launch: Launch) -> None:
        """Start and wait until it is ready; raises `StartFailed`."""
        self.jobs, self.pid = 0, os.getpid()
        self.control, theirs = socket.socketpair()
        try:
            with theirs, tempfile.TemporaryFile() as said:
                self.process = self._start(launch, theirs.fileno(), said)
                theirs.close()
                self._await_ready(said)
        except BaseException:
            self.control.close()
            raise

    def _start(self, launch: Launch, control: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
        host = _own_descriptor()
        try:
            passed = [control, *([] if host is None else [host])]
            process = subprocess.Popen(
                launch.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, env=launch.environment,
                cwd="/", pass_fds=passed, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise StartFailed(f"{launch.command[0]}: {error}") from None
        finally:
            if host is not None:
                os.close(host)
        with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
            stdin.write(launch.program(control, host))
        return process

    def _await_ready(self, said: IO[bytes]) -> None:
        self.control.settimeout(_START_S)
        try:
            is_ready = self.control.recv(len(protocol.READY)) == protocol.READY
        except OSError:
            is_ready = False
        if not is_ready:
            self.close()
            said.seek(0)
            lines = said.read(_CHUNK).decode("utf-8", "replace").strip().splitlines()
            raise StartFailed(lines[-1] if lines else f"it did not start within {_START_S:g} s")
        self.control.setblocking(True)

    def run(self, job: Job) -> Outcome:
        """Have a fresh child do the job; raises `RunnerLost` if there is no longer anyone to give it to."""
        self.jobs += 1
        result, their_result = os.pipe()
        output, their_output = os.pipe()
        try:
            try:
                self._order(job, their_result, their_output)
            finally:
                os.close(their_result)
                os.close(their_output)
            for descriptor in (result, output):
                os.set_blocking(descriptor, False)
            return read_answer(_Exchange(self, job, result, output).finish(), job)
        finally:
            os.close(result)
            os.close(output)

    def _order(self, job: Job, result: int, output: int) -> None:
        order = protocol.ORDER.pack(protocol.RUN, self.jobs, job.seconds, job.memory, job.output)
        with _file(job.data) as file:
            try:
                socket.send_fds(self.control, [order], [file.fileno(), result, output])
            except OSError as error:
                raise RunnerLost(str(error)) from None

    def stop_job(self) -> None:
        with contextlib.suppress(OSError):
            self.control.sendall(protocol.ORDER.pack(protocol.KILL, self.jobs, 0.0, 0, 0))

    @property
    def is_alive(self) -> bool:
        """Whether it takes jobs, as far as is known."""
        return self.control.fileno() != -1

    def stop(self) -> None:
        """End it and what it runs, from any thread; the thread that has it notices."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the warm process and all that it started."""
        with contextlib.suppress(OSError):  # at which it ends by itself, and bubblewrap after it: no zombie for init
            self.control.shutdown(socket.SHUT_RDWR)
        self.control.close()
        try:
            self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.stop()
            self.process.wait()

    def forget(self) -> None:
        """In a fork of the host: let go of what is the parent's, without ending it."""
        self.control.close()
        self.process.returncode = 0


class _Exchange:
    """One job under way: reads the two pipes and the control socket until the child has ended."""

    def __init__(self, worker: Worker, job: Job, result: int, output: int) -> None:
        self.worker, self.job = worker, job
        self.parts: dict[int, bytearray] = {result: bytearray(), output: bytearray()}
        self.room = {result: job.output + _FRAME_ROOM, output: job.output}
        self.result, self.output, self.is_over = result, output, False
        self.poll = select.poll()
        for descriptor in (result, output, worker.control.fileno()):
            self.poll.register(descriptor, select.POLLIN)
        self.start = time.monotonic()
        self.end = self.start + job.seconds + _GRACE_S

    def finish(self) -> Answer:
        """What came back; if the warm process is lost, or does not answer, it is ended."""
        status = self._wait()
        if status is None:
            self.worker.stop()
            self.worker.close()
        for descriptor in self.parts:  # the child has ended, so all it wrote is there
            while self._read(descriptor) > 0:
                pass
        result, output, now = bytes(self.parts[self.result]), bytes(self.parts[self.output]), time.monotonic()
        if status is None:
            return Answer(result, output, now - self.start, None, is_late=now >= self.end, is_over=self.is_over)
        _, how, is_late, seconds = protocol.STATUS.unpack(status)
        return Answer(result, output, seconds, how, is_late=bool(is_late), is_over=self.is_over)

    def _wait(self) -> bytes | None:
        """The STATUS message; None when the warm process is gone, or does not answer in time."""
        control = self.worker.control
        while (remaining := self.end - time.monotonic()) > 0:
            for descriptor, _ in self.poll.poll(remaining * 1000):
                if descriptor == control.fileno():
                    return self._status()
                if self._read(descriptor) == 0:
                    self.poll.unregister(descriptor)
        return None

    def _status(self) -> bytes | None:
        try:
            status = self.worker.control.recv(protocol.STATUS.size)
        except ConnectionResetError:  # its end closed with our order unread
            raise RunnerLost("it ended before it read the order") from None
        except OSError:
            return None
        return status if len(status) == protocol.STATUS.size else None

    def _read(self, descriptor: int) -> int:
        """Read what is there and keep what is allowed; how many bytes it was, 0 at the end, -1 if there is none yet."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return -1
        part, room = self.parts[descriptor], self.room[descriptor]
        if len(part) + len(data) > room and not self.is_over:
            self.is_over = True
            self.worker.stop_job()
        part += data[: room - len(part)]
        return len(data)


def _own_descriptor() -> int | None:
    """A descriptor that becomes readable when this process has ended, by which the warm process notices it.

    The end of the socket is not enough where a fork of this process still holds a copy of it.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    with contextlib.suppress(OSError):
        return os.pidfd_open(os.getpid())
    return None


def _file(data: bytes) -> IO[bytes]:
    """The bytes as a file without a name, at its beginning."""
    in_memory = hasattr(os, "memfd_create")
    file = os.fdopen(os.memfd_create("job"), "w+b") if in_memory else tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file
