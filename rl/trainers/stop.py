"""Being asked to stop: SIGINT, SIGTERM, or a file named STOP in the run folder.

The first request is obeyed at the end of the step, after a checkpoint. A second signal is Python's own again.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from engine.errors import Stopped

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """Watches for a request to stop while it is entered as a context."""

    def __init__(self, run_path: Path) -> None:
        self.file = run_path / "STOP"
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in EXIT_CODES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def reason(self) -> str | None:
        """What asked, or None."""
        if self.signal is not None:
            return self.signal.name
        return f"the file {self.file}" if self.file.exists() else None

    def raised(self, step: int, run_path: Path) -> Stopped:
        """The error to raise once the state is saved; takes a stop file away."""
        reason = self.reason
        self.file.unlink(missing_ok=True)
        error = Stopped(
            f"stopped after step {step} ({reason}); the state is saved",
            place=str(run_path),
            next_step="go on with --resume",
        )
        if self.signal is not None:
            error.exit_code = EXIT_CODES[self.signal]
        return error

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
