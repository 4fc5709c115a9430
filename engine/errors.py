"""The errors that a user can meet, one tree.

EngineError                     exit 1   anything below
├── InputError                  exit 2   what the user gave is wrong
│   ├── ConfigError                      a config file, an override
│   ├── DataError                        a dataset, a missing file or column
│   ├── ParamError (ValueError)          a parameter's value, type or bound
│   ├── TraceError                       a program that cannot be traced as asked
│   └── UnknownName                      a method, optimizer, model... that does not exist
├── EnvironmentMissing          exit 3   a package, a model file or a server that is not there
│   ├── LLMUnavailable                   the endpoint is down or refuses us
│   └── SandboxUnavailable               code of a model was to be run, and nothing may run it
├── AnswerError                 exit 1   a model's answer that cannot be used
├── ReplayError                 exit 2   a replayed run asked something that was not recorded
├── BudgetSpent                 exit 4   nothing is left of a budget
├── CheckpointError             exit 1   a checkpoint that is damaged or of another run
├── NonFinite                   exit 1   a loss or gradient that is not a number
├── Collapsed                   exit 1   a model that lost what it should have kept
└── Stopped                     exit 75  stopped on request, can be resumed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EngineError(Exception):
    """An error that says what happened, the value, what is allowed and the next step."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        place: str | None = None,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.message = message
        self.place = place
        self.allowed = allowed
        self.next_step = next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}" if self.place else self.message]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return "\n".join(lines)


class InputError(EngineError):
    """What the user gave is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """A config file or an override that cannot be used."""


class DataError(InputError):
    """A dataset or file that is missing, unreadable or lacks a column."""


class ParamError(InputError, ValueError):
    """A value that a parameter's type, bounds, choices or constraint refuse."""


class TraceError(InputError):
    """A program that cannot be recorded or walked as asked."""


class UnknownName(InputError):
    """A name that is not among those available; says the nearest one."""

    def __init__(
        self,
        kind: str,
        name: str,
        available: Iterable[str],
        *,
        place: str | None = None,
        next_step: str | None = None,
    ) -> None:
        names = sorted(available)
        self.kind, self.name, self.available = kind, name, names
        super().__init__(
            f"no {kind} '{name}'.{did_you_mean(name, names)}",
            place=place,
            allowed=", ".join(names) or f"no {kind} is installed",
            next_step=next_step,
        )


class EnvironmentMissing(EngineError):
    """A package, a model file or a service that is needed and not there."""

    exit_code = 3


class LLMUnavailable(EnvironmentMissing):
    """The endpoint is down, refuses the key, or does not know the model."""


class SandboxUnavailable(EnvironmentMissing):
    """Code that a model wrote was to be run, and there is nothing here that may run it."""


class AnswerError(EngineError):
    """A model's answer that is malformed even after the one repair request."""


class ReplayError(InputError):
    """A replayed run made a call that its record does not hold."""


class BudgetSpent(EngineError):
    """Nothing is left of a budget."""

    exit_code = 4


class CheckpointError(EngineError):
    """A checkpoint that is damaged or belongs to another run."""


class NonFinite(EngineError):
    """A loss or gradient that is not a finite number; the batch was saved."""


class Collapsed(EngineError):
    """Training destroyed more of the model than was allowed; the checkpoints before it are kept."""


class Stopped(EngineError):
    """The run was asked to stop; its state is saved and it can be resumed."""

    exit_code = 75


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ " Did you mean 'grpo'?" for the nearest of names, or an empty string. Of paths their ends are compared."""
    ends = {known.rpartition("/")[2]: known for known in names}
    near = difflib.get_close_matches(name.rpartition("/")[2], list(ends), n=1, cutoff=0.6)
    return f" Did you mean '{ends[near[0]]}'?" if near else ""
