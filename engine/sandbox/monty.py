"""The tier "monty": an interpreter of its own for a part of Python, written in Rust, from the package pydantic-monty.

It has no way out to be closed, and works where neither namespaces nor seccomp are to be had, on macOS too. What it
cannot run is much: generators, most of the standard library, subclasses and metaclasses; a program that needs these
fails with an exception. Its functions and modules come back as text.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from typing import Any

from engine.sandbox.inside.codec import TooLarge, Unencodable, decode, encode
from engine.sandbox.job import Job
from engine.sandbox.outcome import Fault, Outcome
from engine.sandbox.reading import told
from engine.sandbox.runner import StartFailed

__all__ = ["MontyRunner"]


class MontyRunner:
    """A `Runner` with a pool of pydantic-monty's worker processes; each program has a session of its own."""

    def __init__(self) -> None:
        """Raises `StartFailed` where the package is not installed or does not start."""
        if importlib.util.find_spec("pydantic_monty") is None:
            raise StartFailed("pydantic-monty is not installed")
        import pydantic_monty

        self._monty = pydantic_monty
        self._exit = contextlib.ExitStack()
        try:
            self._pool: Any = self._exit.enter_context(pydantic_monty.Monty())
        except Exception as error:
            raise StartFailed(f"pydantic-monty: {error}") from None
        self.is_alive = True

    def run(self, job: Job) -> Outcome:
        source, function, args, kwargs = decode(job.data)
        printed = _Printed(job.output)
        start = time.monotonic()
        try:
            limits = {"max_feed_duration_secs": job.seconds, "max_memory": job.memory}
            with self._pool.checkout(limits=limits) as session:
                session.feed_run(source, print_callback=printed)
                expression = "RESULT" if function is None else f"{function}(*args_, **kwargs_)"
                inputs = {} if function is None else {"args_": args, "kwargs_": kwargs}
                value = session.feed_run(expression, inputs=inputs, print_callback=printed)
            fault = _unsendable(value, job.output)
        except self._monty.MontyError as error:
            value, fault = None, self._fault(error)
        if printed.is_over:
            fault = Fault("output", f"more than {job.output // 1024} kB of output")
        is_fine = fault is None
        return Outcome(is_fine, value if is_fine else None, fault, printed.text(), time.monotonic() - start)

    def _fault(self, error: Exception) -> Fault:
        text = str(error)
        name = text.partition(":")[0]
        if isinstance(error, self._monty.MontySyntaxError):
            return told("syntax", f"SyntaxError: {text}", "SyntaxError", "")
        if isinstance(error, self._monty.MontyCrashedError):
            return Fault("crash", text[:2000])
        if text.startswith("NameError: name 'RESULT'"):
            return Fault("value", "the program binds no global RESULT")
        if name == "TimeoutError" and "limit" in text:
            return Fault("timeout", text)
        return told("exception", text, name, "")

    def stop(self) -> None:
        self.close()

    def close(self) -> None:
        self.is_alive = False
        self._exit.close()

    def forget(self) -> None:
        self.is_alive = False


class _Printed:
    """Collects what is printed, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size, self.is_over = limit, 0, False
        self.parts: list[str] = []

    def __call__(self, stream: str, text: str) -> None:
        self.size += len(text.encode("utf-8", "replace"))
        if self.size > self.limit:
            self.is_over = True
        else:
            self.parts.append(text)

    def text(self) -> str:
        return "".join(self.parts)


def _unsendable(value: Any, limit: int) -> Fault | None:
    """Why a value is none of an Outcome: another type, or too large."""
    try:
        encode(value, limit)
    except Unencodable as error:
        return Fault("value", f"the result is not of built-in types: {error}")
    except TooLarge as error:
        return Fault("output", f"the result takes {error}")
    return None
