"""OPRO (arXiv 2309.03409): the model continues a list of values in the order of their scores."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from engine.errors import BudgetSpent
from engine.optimizers._compared import whole_scores
from engine.optimizers._turns import Conversation, SamplingOptions, Turn, conversation, fresh, rows, wanted
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State, values_key
from engine.params import Param

Ranked = list[tuple[Any, float]]
"""Values of one parameter with the best score that an evaluation with it had, worst first."""


class OproOptions(SamplingOptions):
    explore: int = Field(default=8, ge=0, description="candidates proposed before scores are told")
    history: int = Field(default=20, ge=1, description="best values shown, worst first")
    crossover: float = Field(default=0.25, ge=0, le=1, description="share of candidates recombined from known values")
    parents: int = Field(default=5, ge=1, description="best values of each parameter that are recombined")


class Opro(Optimizer):
    """Asks for values that score higher than those shown, which are the 20 best in ascending order.

    8 candidates a step at temperature 1, as in the paper. Departures: each parameter is asked for in a
    call of its own, so that each has its own order of values, by the best score that an evaluation with it had;
    with several parameters a quarter of the candidates recombines the best known values of each, at no
    cost in calls; scores and values are told as turns of a conversation and not in one message; no task
    examples are shown; and the first `explore` candidates are asked for without scores, because from one
    scored value a small model makes copies of it. Feedback texts are not read.
    """

    Config: ClassVar[type[Options]] = OproOptions

    def calls(self, params: int) -> int:
        return params

    def propose(self, state: State, n: int) -> list[Candidate]:
        ranked = {param.name: ranking(state.history, param.name) for param in state.params}
        exploring = len(state.history) <= self.config.explore
        crossed = [] if exploring else recombined(state, ranked, round(self.config.crossover * n), self.config.parents)
        objective = self.config.objective or state.objective

        def asked(param: Param) -> Conversation:
            if exploring or not ranked[param.name]:
                return fresh(param, objective, state.initial[param.name])
            return scored(param, objective, ranked[param.name][-self.config.history :])

        try:
            found = (
                rows(state, asked, n - len(crossed), "new values", self.config.sampling()) if n > len(crossed) else []
            )
        except BudgetSpent:
            if not crossed:
                raise
            found = []
        return [*crossed, *found]


def recombined(state: State, ranked: Mapping[str, Ranked], share: int, parents: int) -> list[Candidate]:
    """Up to `share` combinations of the best known values that were not evaluated yet, better parents more often.

    parents: how many of each parameter's values are combined. None where there is one parameter only.
    """
    if len(state.params) < 2:
        return []
    seen = {values_key(e.candidate.values) for e in state.history}
    found: list[Candidate] = []
    for _ in range(10 * share):
        if len(found) == share:
            break
        values = {name: _parent(pool[-parents:], state.rng) for name, pool in ranked.items() if pool}
        key = values_key({**state.current, **values})
        if key not in seen:
            seen.add(key)
            found.append(Candidate(values, "recombined"))
    return found


def scored(param: Param, objective: str, shown: Ranked) -> Conversation:
    """Values are told by their scores, and one with a higher score is asked for."""
    tell = Scale([score for _, score in shown])
    turns: list[Turn] = [(f"Write {wanted(param)}, score {tell(score)}.", value) for value, score in shown]
    ask = f"Write {wanted(param)}, score {tell.next()}."
    return conversation(param, objective, "Higher scores are better.", turns, ask)


def ranking(history: Sequence[Evaluation], name: str) -> Ranked:
    """The values of one parameter that were evaluated without a failed run, by `whole_scores`, worst first."""
    best: dict[str, tuple[Any, float]] = {}
    for evaluation, score in zip(history, whole_scores(history), strict=True):
        value = evaluation.candidate.values[name]
        key = values_key({name: value})
        if score is not None and not any(evaluation.failed) and score > best.get(key, (None, float("-inf")))[1]:
            best[key] = (value, score)
    return sorted(best.values(), key=lambda pair: pair[1])


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
