"""OPRO (arXiv 2309.03409): the model continues a list of values in the order of their scores."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from engine.errors import BudgetSpent
from engine.llm.base import Message
from engine.optimizers._turns import Turn, ask_values, conversation, fresh, introduction
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State, values_key
from engine.params import Param

Ranked = list[tuple[Any, float]]
"""Values of one parameter with the best score that an evaluation with it had, worst first."""


class OproOptions(Options):
    explore: int = Field(default=8, ge=0, description="candidates proposed before scores are told")
    history: int = Field(default=20, ge=1, description="best values shown, worst first")
    crossover: float = Field(default=0.25, ge=0, le=1, description="share of candidates recombined from known values")
    parents: int = Field(default=5, ge=1, description="best values of each parameter that are recombined")
    objective: str = Field(default="", description="what to achieve, told first; by default the workflow's docstring")
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1, description="of one value")


class Opro(Optimizer):
    """Asks for values that score higher than those shown, which are the 20 best in ascending order.

    8 candidates a step at temperature 1, as in the paper. Departures: each parameter is asked for in a
    call of its own, and a new value is tried with the present values of the other parameters; with several
    parameters a quarter of the candidates recombines the best known values of each, at no cost in
    calls; scores and values are told as turns of a conversation and not in one message; no task
    examples are shown; and the first `explore` candidates are asked for without scores, because from one
    scored value a small model makes copies of it. Feedback texts are not read.
    """

    Config: ClassVar[type[Options]] = OproOptions

    def propose(self, state: State, n: int) -> list[Candidate]:
        ranked = {param.name: ranking(state.history, param.name) for param in state.params}
        exploring = len(state.history) <= self.config.explore
        crossed = [] if exploring else self._crossed(state, ranked, n)
        found: list[Candidate] = []
        for param, wanted in shares(state.params, n - len(crossed), state.step):
            try:
                found += self._asked(state, param, [] if exploring else ranked[param.name], wanted)
            except BudgetSpent:
                if not found and not crossed:
                    raise
                break
        return [*crossed, *found]

    def _asked(self, state: State, param: Param, ranked: Ranked, n: int) -> list[Candidate]:
        """Candidates with a new value of one parameter; without ranked values it is asked for as `best_of_n` does."""
        objective = self.config.objective or state.objective
        if ranked:
            messages, turns = self._scored(param, objective, ranked[-self.config.history :])
        else:
            messages, turns = fresh(param, objective, state.initial[param.name])
        sampling = {name: getattr(self.config, name) for name in ("temperature", "top_p", "max_tokens")}
        values, faults = ask_values(state, param, messages, turns, n, **sampling)
        return [Candidate({param.name: value}, f"a new value of {param.name}") for value in values] + faults

    def _scored(self, param: Param, objective: str, shown: Ranked) -> tuple[list[Message], list[Turn]]:
        """The conversation that tells values by their scores and asks for a higher one."""
        tell = Scale([score for _, score in shown])
        turns: list[Turn] = [(f"Score {tell(score)}", value) for value, score in shown]
        told = "The user says a score, you answer with a value that reaches it. Higher scores are better."
        intro = introduction(param, objective, told)
        return conversation(param, intro, turns, f"Score {tell.next()}"), turns

    def _crossed(self, state: State, ranked: Mapping[str, Ranked], n: int) -> list[Candidate]:
        """Combinations of the best known values that were not evaluated yet, better parents more often."""
        if len(state.params) < 2:
            return []
        seen = {values_key(e.candidate.values) for e in state.history}
        found: list[Candidate] = []
        wanted = round(self.config.crossover * n)
        for _ in range(10 * wanted):
            if len(found) == wanted:
                break
            values = {name: _parent(pool[-self.config.parents :], state.rng) for name, pool in ranked.items() if pool}
            key = values_key({**state.current, **values})
            if key not in seen:
                seen.add(key)
                found.append(Candidate(values, "recombined"))
        return found


def ranking(history: Sequence[Evaluation], name: str) -> Ranked:
    """The values of one parameter that were evaluated without a failed run, worst first."""
    best: dict[str, tuple[Any, float]] = {}
    for evaluation in history:
        value, score = evaluation.candidate.values[name], evaluation.score
        key = values_key({name: value})
        if score is not None and not any(evaluation.failed) and score > best.get(key, (None, float("-inf")))[1]:
            best[key] = (value, score)
    return sorted(best.values(), key=lambda pair: pair[1])


def shares(params: Sequence[Param], n: int, step: int) -> list[tuple[Param, int]]:
    """How many of n candidates each parameter gets; what does not divide goes round with the steps."""
    count = len(params)
    order = [params[(step + i) % count] for i in range(count)]
    return [(p, n // count + (i < n % count)) for i, p in enumerate(order) if n // count + (i < n % count)]


class Scale:
    """Scores as short numbers: shares in percent, others with three digits."""

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = list(scores) or [0.0]
        self._is_share = all(0 <= score <= 1 for score in self._scores)

    def __call__(self, score: float) -> str:
        return f"{100 * score:.0f}" if self._is_share else f"{score:.3g}"

    def next(self) -> str:
        """The score to ask for: a tenth of the range (for shares at least two percent) above the best."""
        low, best = min(self._scores), max(self._scores)
        step = (best - low) / 10 or abs(best) / 10 or 1.0
        return self(min(1.0, best + max(0.02, step))) if self._is_share else self(best + step)


def _parent(pool: Ranked, rng: random.Random) -> Any:
    """One of the values, drawn with weights 1, 2, 3... from worst to best."""
    return rng.choices(pool, weights=range(1, len(pool) + 1))[0][0]


OPTIMIZER = Opro
