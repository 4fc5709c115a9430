"""Being asked to stop: SIGINT, SIGTERM, or a file named STOP in the run folder.

The first request is obeyed at the end of the step, after a checkpoint. A later signal is Python's own again; one that
follows at once is the same request, since schedulers send it to a process and then to its group.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from engine.errors import Stopped

SAME_REQUEST_S = 2.0
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """Watches for a request to stop while it is entered as a context."""

    def __init__(self, run_path: Path) -> None:
        self.file = run_path / "STOP"
        self.signal: signal.Signals | None = None
        self._noted = 0.0
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

    def raised(self, step: int, run_path: Path, *, is_saved: bool = True) -> Stopped:
        """The error to raise once the state is saved, or within a step, which is then done again after the last
        checkpoint; takes a stop file away."""
        reason = self.reason
        self.file.unlink(missing_ok=True)
        error = Stopped(
            f"stopped after step {step} ({reason}); {'the state is saved' if is_saved else 'checkpoints are kept'}",
            place=str(run_path),
            next_step="go on with --resume",
        )
        if self.signal is not None:
            error.exit_code = EXIT_CODES[self.signal]
        return error

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._noted = signal.Signals(number), now
        elif now - self._noted > SAME_REQUEST_S:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
