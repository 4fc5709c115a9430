"""Which proposals are worth running: valid values that were not seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.copies import Copies
from engine.errors import ParamError, did_you_mean
from engine.optimizers.base import Candidate, values_key
from engine.params import Param
from engine.program import text_of


@dataclass(frozen=True)
class Refused:
    """A proposal that is not run, and why."""

    values: str
    reason: str


@dataclass(frozen=True)
class Sieved:
    """fresh: candidates with a checked value for every parameter; invalid and duplicates: the others."""

    fresh: list[Candidate]
    invalid: list[Refused]
    duplicates: list[Refused]


class Sieve:
    """Checks proposals against the parameters' types, all values seen so far, and the examples that `copies` knows."""

    def __init__(self, params: Sequence[Param], copies: Copies | None = None) -> None:
        self._params = {param.name: param for param in params}
        self._copies = copies
        self._seen: set[str] = set()

    def saw(self, values: Mapping[str, Any]) -> None:
        """Take these complete values as seen."""
        self._seen.add(values_key(values))

    def __call__(self, candidates: Sequence[Candidate], current: Mapping[str, Any]) -> Sieved:
        """Sort the candidates; what one leaves out is filled from `current`. An empty list is one invalid proposal."""
        sieved = Sieved([], [], [])
        if not candidates:
            sieved.invalid.append(Refused("", "the optimizer proposed nothing"))
        for candidate in candidates:
            shown = text_of(dict(candidate.values), 500)
            if reason := candidate.fault or self._fault(candidate):
                sieved.invalid.append(Refused(shown, reason))
                continue
            checked = {name: self._params[name].check(value) for name, value in candidate.values.items()}
            values = {**current, **checked}
            key = values_key(values)
            if key in self._seen:
                sieved.duplicates.append(Refused(shown, "these values were tried before"))
                continue
            self._seen.add(key)
            sieved.fresh.append(replace(candidate, values=values))
        return sieved

    def _fault(self, candidate: Candidate) -> str:
        """Why the candidate's values cannot be used, or nothing."""
        for name, value in candidate.values.items():
            param = self._params.get(name)
            if param is None:
                hint = did_you_mean(str(name), self._params)
                return f"no parameter '{name}'.{hint} There are: {', '.join(self._params)}"
            if param.obstacle:
                return f"{name}: {param.obstacle}"
            try:
                param.admit(value, "model")
            except ParamError as error:
                return f"{name}: {error.message}"
            if self._copies is not None and param.kind != "choice" and (copied := self._copies.found(value)):
                return f"{name}: {copied}; a value must serve examples that are not seen here"
        return ""


def is_proposable(param: Param) -> bool:
    """Whether an optimizer may propose values of this parameter: not of weights, nor of code that nothing could run."""
    return not param.obstacle
