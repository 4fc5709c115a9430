"""The sandbox: workers, and the choice of the tier in which they run."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ParamError
from engine.sandbox.compare import same
from engine.sandbox.guard import MAX_SOURCE
from engine.sandbox.inside.codec import TooLarge, Unencodable, encode
from engine.sandbox.job import Job
from engine.sandbox.outcome import Fault, Outcome
from engine.sandbox.runner import Runner, RunnerLost
from engine.sandbox.tiers import TIERS, first_worker, new_worker

__all__ = ["Sandbox", "Twice", "shared"]

_log = logging.getLogger("engine.sandbox")
_MAX_JOB = 64 * 2**20  # bytes of source and arguments
_MAX_SECONDS, _MIN_MEMORY_MB = 3600.0, 64
_SEEDS = (0, 1)  # hash seeds: of every run, and of the second run that tells whether a program is deterministic


@dataclass(frozen=True)
class Twice:
    """The outcome of a program's first run, and whether a second one in another process came to the same."""

    outcome: Outcome
    agrees: bool


class _Slot:
    """Room for one job at a time: a worker for each place in _SEEDS, started when needed."""

    def __init__(self) -> None:
        self.workers: dict[int, Runner] = {}
        self.busy: list[Runner] = []

    def run(self, job: Job, tier: str, which: int) -> Outcome:
        """Have the job done by a worker that works, and keep it only while it does."""
        for _ in range(2):  # a worker that was lost between jobs has not seen this one
            worker = self.workers.pop(which, None) or new_worker(tier, _SEEDS[which])
            self.busy.append(worker)
            try:
                outcome = worker.run(job)
            except RunnerLost:
                worker.close()
                continue
            except BaseException:
                worker.stop()
                worker.close()
                raise
            finally:
                self.busy.remove(worker)
            if worker.is_alive:
                self.workers[which] = worker
            return outcome
        return Outcome(False, None, Fault("crash", "the sandbox's own process ended twice before the program"), "", 0.0)

    def close(self) -> None:
        while self.workers:
            self.workers.popitem()[1].close()


class Sandbox:
    """Runs Python that nobody has looked at. Nothing is started before the first run; `close` ends what was.

    Many threads may use one sandbox: each run has a worker to itself, and waits while all are busy. A fork of this
    process gets workers of its own. `tier` is "auto" (the strongest that works here) or one of TIERS; "unsafe" confines
    nothing and logs a warning at every run.
    """

    def __init__(self, *, tier: str = "auto", workers: int = 2) -> None:
        """Raises ParamError for a tier that does not exist or fewer than one worker."""
        if tier not in ("auto", *TIERS):
            raise ParamError(f"no sandbox tier {tier!r}", allowed=", ".join(("auto", *TIERS)))
        if workers < 1:
            raise ParamError(f"a sandbox with {workers} workers", allowed="1 or more")
        self._requested, self._count = tier, workers
        self._reset()
        _SANDBOXES.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._resolved: str | None = None
        self._closed = False
        self._all = [_Slot() for _ in range(self._count)]
        self._free: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for slot in self._all:
            self._free.put(slot)
        self._finalizer = weakref.finalize(self, _close_all, self._all, os.getpid())

    @property
    def tier(self) -> str:
        """The tier in use: "namespaces", "process", "monty" or "unsafe"; raises SandboxUnavailable if none can be."""
        if self._resolved is None:
            with self._slot():
                pass
        return str(self._resolved)

    def run(self, source: str, *, timeout_s: float = 2.0, memory_mb: int = 512, output_kb: int = 1024) -> Outcome:
        """Run the program; the Outcome's value is its global RESULT.

        timeout_s: wall time. memory_mb: address space, the interpreter's own included. output_kb: of what it prints,
        and of its encoded result. Raises ParamError for impossible limits, SandboxUnavailable if nothing may run it.
        """
        return self._run(_job(source, None, (), {}, timeout_s, memory_mb, output_kb), 0)

    def call(
        self,
        source: str,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 2.0,
        memory_mb: int = 512,
        output_kb: int = 1024,
    ) -> Outcome:
        """Run the program, then call the function of that name; the Outcome's value is what it returns.

        Arguments are of the types that values may have, or ParamError is raised. Limits as for `run`.
        """
        return self._run(_job(source, function, args, kwargs or {}, timeout_s, memory_mb, output_kb), 0)

    def run_twice(
        self,
        source: str,
        function: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 2.0,
        memory_mb: int = 512,
        output_kb: int = 1024,
    ) -> Twice:
        """As `run` or `call`, and again in a process with another hash seed; compared here, by exact type and value.

        Two runs that fail agree when kind and type of the failure do. What is printed is not compared.
        """
        job = _job(source, function, args, kwargs or {}, timeout_s, memory_mb, output_kb)
        first, second = (self._run(job, which) for which in range(len(_SEEDS)))
        if first.error is not None or second.error is not None:
            seen = [(o.error.kind, o.error.type) if o.error else None for o in (first, second)]
            return Twice(first, seen[0] == seen[1])
        return Twice(first, same(first.value, second.value))

    def close(self) -> None:
        """End all workers; a job under way answers with a crash. A closed sandbox cannot be used again."""
        self._closed = True
        for slot in self._all:
            for worker in list(slot.busy):
                worker.stop()
        held = [self._free.get() for _ in self._all]
        self._finalizer()
        for slot in held:  # for those who wait, so that they notice
            self._free.put(slot)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, job: Job | Fault, which: int) -> Outcome:
        if isinstance(job, Fault):
            return Outcome(False, None, job, "", 0.0)
        with self._slot() as slot:
            if self._resolved == "unsafe":
                _log.warning("running a program outside any sandbox (tier 'unsafe')")
            return slot.run(job, str(self._resolved), which)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[_Slot]:
        """One slot for as long as it is held; the tier is settled with the first."""
        slot = self._free.get()
        try:
            if self._closed:
                raise ParamError("the sandbox is closed", next_step="make a new Sandbox")
            with self._lock:
                if self._resolved is None:
                    self._resolved, slot.workers[0] = first_worker(self._requested, _SEEDS[0])
            yield slot
        finally:
            self._free.put(slot)


def _job(
    source: str, function: str | None, args: Sequence[Any], kwargs: Mapping[str, Any],
    timeout_s: float, memory_mb: int, output_kb: int,
) -> Job | Fault:  # fmt: skip
    """The job as bytes; a Fault where the source is such that it is not run."""
    if not 0 < timeout_s <= _MAX_SECONDS:
        raise ParamError(f"timeout_s is {timeout_s}", allowed=f"above 0, at most {_MAX_SECONDS:g} seconds")
    if memory_mb < _MIN_MEMORY_MB:
        raise ParamError(f"memory_mb is {memory_mb}", allowed=f"{_MIN_MEMORY_MB} or more, which holds the interpreter")
    if not (isinstance(source, str) and (function is None or function.isidentifier())):
        raise ParamError(f"a program of type {type(source).__name__} and function {function!r}", allowed="str, a name")
    if output_kb < 1:
        raise ParamError(f"output_kb is {output_kb}", allowed="1 or more")
    if len(source) > MAX_SOURCE:
        return Fault("refused", f"the source has {len(source)} characters; at most {MAX_SOURCE} are run")
    try:
        data = encode((source, function, tuple(args), dict(kwargs)), _MAX_JOB)
    except (Unencodable, TooLarge) as error:
        raise ParamError(
            f"the arguments cannot be sent into the sandbox: {error}",
            allowed="None, bool, int, float, complex, str, bytes, and list, tuple, dict, set, frozenset of these",
        ) from None
    return Job(data, float(timeout_s), memory_mb * 2**20, output_kb * 1024)


def _close_all(slots: list[_Slot], pid: int) -> None:
    if os.getpid() == pid:
        for slot in slots:
            slot.close()


_SANDBOXES: weakref.WeakSet[Sandbox] = weakref.WeakSet()
_shared: Sandbox | None = None
_shared_lock = threading.Lock()


def shared() -> Sandbox:
    """The sandbox of this process, made at the first call; the tier is that of ENGINE_SANDBOX, or "auto".

    It has a worker for each processor, at least two, and starts as many as are needed at once.
    """
    global _shared
    with _shared_lock:
        if _shared is None or _shared._closed:
            _shared = Sandbox(tier=os.environ.get("ENGINE_SANDBOX") or "auto", workers=max(2, os.cpu_count() or 2))
        return _shared


def _after_fork() -> None:
    """In a fork of this process: what belongs to the parent is let go of, and locks are nobody's."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for sandbox in list(_SANDBOXES):
        for slot in sandbox._all:
            for worker in (*slot.workers.values(), *slot.busy):
                worker.forget()
        sandbox._finalizer.detach()
        closed = sandbox._closed
        sandbox._reset()
        sandbox._closed = closed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
