"""What the sandbox asks of whatever runs programs in a tier."""

from __future__ import annotations

from typing import Protocol

from engine.sandbox.job import Job
from engine.sandbox.outcome import Outcome

__all__ = ["Runner", "RunnerLost", "StartFailed"]


class StartFailed(Exception):
    """It did not come up, or must not be used; the text says why."""


class RunnerLost(Exception):
    """It ended before it took the job, so the job can go to another."""


class Runner(Protocol):
    """Runs one job at a time. Not thread-safe but for `stop`: whoever has it, has it alone."""

    @property
    def is_alive(self) -> bool:
        """Whether it takes jobs, as far as is known."""

    def run(self, job: Job) -> Outcome:
        """What came of the program, whatever it did; raises `RunnerLost` if there is nobody to give it to."""

    def stop(self) -> None:
        """End it and what it runs, from any thread."""

    def close(self) -> None:
        """End it and let go of what it holds."""

    def forget(self) -> None:
        """In a fork of the host: let go of what is the parent's, without ending it."""
