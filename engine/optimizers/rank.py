"""From rankings of a step alone: numbers by ZO-RankSGD, choices by strengths, texts by another optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from engine import optimizers
from engine.optimizers._compared import Round, rounds, with_strengths
from engine.optimizers._descent import PERTURBED, SEARCHED, Settings, perturbed, replayed, step, values_at
from engine.optimizers._space import Space, fresh
from engine.optimizers._thompson import sampled
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State
from engine.params import Param

THOMPSON = "drawn by the strengths of the values"
WORDED = {"text", "code", "json"}

Part = Callable[[State, int], list[Candidate]]


class RankOptions(Options):
    of: str | dict[str, Any] = Field(default="opro", description="who proposes texts, code and JSON")
    mu: float = Field(default=0.15, gt=0, le=1, description="first perturbations of numbers, in shares of an interval")
    eta: float = Field(default=2.0, gt=0, description="the longest step of a line search, in perturbations")
    gamma: float = Field(default=0.5, gt=0, lt=1, description="ratio of one step to the one before")
    line_search: int = Field(default=6, ge=1, description="steps of a line search, at most `candidates`")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="what stays of the direction before")
    shrink: float = Field(default=0.8, gt=0, le=1, description="of the perturbations where a short step wins")
    log: list[str] | None = Field(default=None, description="numbers on a log scale; null: where le >= 1000 ge > 0")
    tries: int = Field(default=20, ge=1, description="draws for one candidate until it is valid and new")


class Rank(Optimizer):
    """Reads which of a step's candidates are better, and never compares scores of different steps.

    For feedback of a ranker; scores work too, as a ranking in each step. A step changes one part of the parameters, in
    turn, so that its ranking says something of that part:

    Numbers: ZO-RankSGD (2303.03751) in coordinates scaled to the intervals (see `Space`); steps of perturbations and of
    line searches alternate. Departures: mu, which the paper keeps at 0.01, begins at 0.15 and follows the line
    searches, because people see no hundredth; a candidate cannot be asked for twice, so the point itself is not among
    the steps, and the shortest stands for it; the point moves by line searches alone, whatever values the loop holds:
    these won once, and with a noisy ranker that is luck in part.
    Choices and flags: Thompson sampling on Bradley-Terry strengths of their values from all rankings so far, a
    candidate's strength being the sum over its values.
    Text, code, JSON: proposed by `of` where there is a model. It is told the probability that each candidate beats the
    starting values, from Bradley-Terry strengths of all rankings, which the held values join; win rates of
    different steps, with other rivals in each, say nothing of each other.

    Everything follows from the history, so a resumed run goes on exactly. Raises what `of` raises.
    """

    needs = frozenset({"ranking", "score"})
    needs_llm = False
    Config: ClassVar[type[Options]] = RankOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._inner = optimizers.make(self.config.of)
        self.needs, self.shown = self.needs | self._inner.needs, self._inner.shown

    def asks_llm(self, params: Sequence[Param]) -> bool:
        """Whether there is something to propose in words."""
        worded = [param for param in params if param.kind in WORDED]
        return bool(worded) and self._inner.asks_llm(worded)

    def calls(self, params: int) -> int:
        return self._inner.calls(params)

    def answer_tokens(self, params: int) -> int:
        return self._inner.answer_tokens(params)

    def propose(self, state: State, n: int) -> list[Candidate]:
        parts = self._parts(state)
        first = (state.step - 1) % max(1, len(parts))
        found = (part(state, n) for part in [*parts[first:], *parts[:first]])
        return next((candidates for candidates in found if candidates), [])

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        own = {PERTURBED, SEARCHED, THOMPSON}
        worded = [e for e in evaluations if e.candidate.reason not in own]
        if worded:
            self._inner.observe(worded)

    def state_dict(self) -> dict[str, Any]:
        return {"of": self._inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._inner.load_state_dict(state.get("of", {}))

    def _parts(self, state: State) -> list[Part]:
        """Who proposes, in turn: of each kind of parameter that there is."""
        kinds = {param.kind for param in state.params}
        parts: list[Part] = []
        if kinds & {"number", "integer"}:
            parts.append(self._numbers)
        if kinds & {"choice", "flag"}:
            parts.append(self._choices)
        if kinds & WORDED and (state.llm is not None or not parts):
            parts.append(self._words)
        return parts

    def _numbers(self, state: State, n: int) -> list[Candidate]:
        space = Space(Space.of(state, self.config.log).axes, ())
        settings = self._settings()
        descent = replayed(_rounds(state), space.axes, state.initial, settings)
        number = min(n, self.config.line_search) if descent.is_search else n

        def drawn() -> Iterator[dict[str, Any]]:
            for i in itertools.count():
                is_step = descent.is_search and i < number
                at = step(descent, i, settings) if is_step else perturbed(descent, space.axes, state.rng)
                yield values_at(space.axes, at)

        reason = SEARCHED if descent.is_search else PERTURBED
        return [Candidate(values, reason) for values in fresh(state, space, drawn(), number, self.config.tries)]

    def _choices(self, state: State, n: int) -> list[Candidate]:
        space = Space((), Space.of(state, self.config.log).categories)
        drawn = sampled(_rounds(state), space.categories, state.rng)
        return [Candidate(values, THOMPSON) for values in fresh(state, space, drawn, n, self.config.tries)]

    def _words(self, state: State, n: int) -> list[Candidate]:
        worded = [param for param in state.params if param.kind in WORDED]
        history = with_strengths(state.history, is_ranked=state.is_ranked)
        return self._inner.propose(replace(state, params=worded, history=history), n)

    def _settings(self) -> Settings:
        c = self.config
        return Settings(c.mu, c.eta, c.gamma, c.momentum, c.shrink)


def _rounds(state: State) -> list[Round]:
    return rounds(state.history, is_ranked=state.is_ranked)


OPTIMIZER = Rank
