"""From what came back of a child to an Outcome: nothing in it is believed that was not checked."""

from __future__ import annotations

import builtins
import os
import signal
from typing import Any

from engine.sandbox.inside.codec import BadBytes
from engine.sandbox.inside.protocol import SETUP, VALUE, parse_frame
from engine.sandbox.job import Answer, Job
from engine.sandbox.outcome import Fault, Outcome

__all__ = ["read_answer", "told"]

_TOLD = {"exception", "syntax", "value", "memory", "output"}  # what a child may say of itself
_TEXT = 4000
_EXCEPTIONS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}


def read_answer(answer: Answer, job: Job) -> Outcome:
    """The Outcome of a job."""
    value, fault = _value_or_fault(answer, job)
    output = answer.output.decode("utf-8", "replace")
    return Outcome(fault is None, value, fault, output, answer.seconds)


def _value_or_fault(answer: Answer, job: Job) -> tuple[Any, Fault | None]:
    if answer.is_late:
        return None, Fault("timeout", f"no result within {job.seconds:g} s")
    if answer.is_over:
        return None, Fault("output", f"more than {job.output // 1024} kB of output")
    if answer.status != 0:
        return None, _crash(answer.status)
    if not answer.result:
        return None, Fault("crash", "the program ended its process before it gave a result")
    try:
        what, value = parse_frame(answer.result)
    except BadBytes as error:
        return None, Fault("protocol", f"something else than one result came back: {error}")
    if what == VALUE:
        return value, None
    if what == SETUP:
        return None, Fault("crash", f"the sandbox could not be closed: {_printable(value[1])}")
    return None, told(*value)


def told(kind: str, text: str, type_name: str, traceback: str) -> Fault:
    """What the child says of its failure, made harmless: known kinds and types, short texts, no control characters."""
    if kind not in _TOLD:
        return Fault("protocol", f"an unknown kind of failure: {_printable(kind)[:80]}")
    if type_name == "MemoryError":
        kind = "memory"
    known = type_name if type_name in _EXCEPTIONS else "Exception" if type_name else ""
    return Fault(kind, _printable(text), known, _printable(traceback))


def _crash(status: int | None) -> Fault:
    if status is None:
        return Fault("crash", "the sandbox's own process ended with the program")
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return Fault("crash", f"the program ended its process with code {code}")
    if -code == signal.SIGXCPU:
        return Fault("timeout", "no processor time is left")
    why = " (out of memory?)" if -code == signal.SIGKILL else ""
    return Fault("crash", f"the program's process was ended by {_signal_name(-code)}{why}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _printable(text: str) -> str:
    """The text without characters that would steer a terminal, cut to a few kB."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text[:_TEXT])
    return shown[:_TEXT]
