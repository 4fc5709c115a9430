"""Exceptions as feedback: the lines of a traceback that tell a reader what went wrong."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from engine.feedback import Feedback

if TYPE_CHECKING:
    from engine.graph.node import ErrorNode

_ATTRIBUTE = "__trace_node__"
_OURS = str(Path(__file__).parent)
_INSTALLED = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))


def attach_node(error: BaseException, node: ErrorNode) -> None:
    """Remember on an exception the node of the call that raised it."""
    setattr(error, _ATTRIBUTE, node)


def error_node(error: BaseException) -> ErrorNode | None:
    """The node of the call (with catch=True) that an exception came from, or that its cause came from."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        node: ErrorNode | None = getattr(at, _ATTRIBUTE, None)
        if node is not None:
            return node
        at = at.__cause__ or at.__context__
    return None


def traceback_feedback(error: BaseException, trace: TracebackType | None, first_line: int = 1) -> Feedback:
    """The exception's type and text, and the user's own lines that led to it, outermost first.

    trace: from the function's own frame on. first_line: where that function's source begins, so
    that its line number is told as counted in the source that a reader sees.
    """
    lines = ["".join(traceback.format_exception_only(error)).strip()]  # with its notes: a sandbox's frames are one
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(_OURS)]
    for depth, frame in enumerate(frames):
        is_own = not frame.filename.startswith(_INSTALLED)
        if is_own or depth in (0, len(frames) - 1):
            number = (frame.lineno or 0) - (first_line - 1 if depth == 0 else 0)
            lines.append(f"  in {frame.name}, line {number}: {frame.line or '(no source)'}")
    cause = error.__cause__
    if cause is not None:
        lines.append("  caused by " + "".join(traceback.format_exception_only(cause)).strip())
    return Feedback(text="\n".join(lines))
