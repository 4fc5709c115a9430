"""Libraries in a process of their own: questions and replies are lines of JSON, and a slow one is stopped.

For math-verify and reasoning-gym, which evaluate text of a model. The hash seed of the process is
fixed, because what reasoning-gym generates depends on it, and a resumed run must meet the same tasks.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from engine.errors import EngineError, EnvironmentMissing

__all__ = ["MATH_VERIFY", "REASONING_GYM", "Child"]

PROGRAM = Path(__file__).with_name("_program.py")
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


class Child:
    """The judge of that name in `_program.py`; started at the first question. Safe to ask from several threads.

    package: what to install where the judge says that it cannot be imported.
    """

    def __init__(self, judge: str, *, package: str) -> None:
        self.judge, self.package = judge, package
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The reply; None if it did not come in time, or the process died of the question.

        Raises EnvironmentMissing where the judge's package is not installed, EngineError where the
        judge refuses the question itself.
        """
        with self._lock:
            process = self._running()
            timer = threading.Timer(timeout_s, process.kill)
            timer.start()
            try:
                reply = _exchange(process, question)
            finally:
                timer.cancel()
            if reply is None:
                self.close()
        if reply is not None and "refused" in reply:
            raise EngineError(f"the judge {self.judge} cannot answer: {reply['refused']}")
        return reply

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            atexit.unregister(self.close)

    def _running(self) -> subprocess.Popen[str]:
        """The process, started if it is not there. Waits until it has imported what it needs."""
        if self._process is not None:
            return self._process
        environment = {k: v for k, v in os.environ.items() if not any(s in k.upper() for s in _SECRETS)}
        # -P: what lies beside the program must not be taken for the packages that it imports.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), self.judge],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**environment, "PYTHONHASHSEED": "0"},
        )
        atexit.register(self.close)
        hello = _exchange(self._process, None) or {"missing": "the process ended at its start"}
        if "missing" in hello:
            self.close()
            raise EnvironmentMissing(
                f"the reward '{self.judge}' cannot run: {hello['missing']}",
                next_step=f"pip install {self.package}",
            )
        return self._process


def _exchange(process: subprocess.Popen[str], question: dict[str, Any] | None) -> dict[str, Any] | None:
    """Send the question, if there is one, and read a reply; None if the process is gone."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        if question is not None:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None
    except (OSError, ValueError):
        return None


MATH_VERIFY = Child("math_verify", package="math-verify")
REASONING_GYM = Child("reasoning_gym", package="reasoning-gym")
"""One process each, for all that ask; it starts at the first question."""
