"""Numbers and choices without a language model: TPE by optuna, CMA-ES by cmaes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from pydantic import Field

from engine.errors import InputError
from engine.optimizers._cmaes import points
from engine.optimizers._compared import comparable_scores
from engine.optimizers._space import Axis, Space, fresh
from engine.optimizers.base import Candidate, Optimizer, Options, State

WARM = 96
"""Evaluations that `auto` leaves to TPE, which CMA-ES then begins from."""

Sampler = Literal["tpe", "cmaes", "random", "auto"]


class NumericOptions(Options):
    candidates: int = Field(default=4, ge=1, description="candidates asked for in a step; 1 learns most from each")
    sampler: Sampler = Field(default="tpe", description="auto: tpe, and cmaes after 96 evaluations of numbers alone")
    startup: int = Field(default=10, ge=1, description="evaluations before TPE begins; until then uniform draws")
    population: int | None = Field(default=None, ge=4, description="of CMA-ES; null: see the documentation")
    log: list[str] | None = Field(default=None, description="numbers on a log scale; null: where le >= 1000 ge > 0")
    tries: int = Field(default=20, ge=1, description="draws for one candidate until it is valid and new")


class Numeric(Optimizer):
    """Proposes numbers, integers, choices and flags; texts, code and JSON keep their current values.

    tpe: the tree-structured Parzen estimator of Bergstra et al. (2011), multivariate, as optuna has it by default
    (2304.11127); candidates of the same step are told to it as running, which it takes for bad ones (the constant
    liar), so that they differ. cmaes: see `_cmaes`; choices and flags are then proposed by TPE on them alone. auto: TPE
    for the first 96 evaluations; then, where there are numbers alone, CMA-ES from where the best of them lie. random:
    optuna's uniform draws. The study is made anew from the history in each step, so a resumed run goes on as if it had
    never stopped; nothing is stored.

    What is told: `comparable_scores`, that is with batches differences to the starting values on the same examples,
    and the mean of several objectives. A candidate of which every run failed is told as pruned, which TPE takes
    for worse than any score; CMA-ES for the worst of its generation.

    Where it searches: between the bounds; on a log scale where `log` says so; an open side reaches 10 max(1, |start|)
    from the start, and further when the best values are far out (see `Space`). Values that a constraint refuses
    or that were tried before are drawn again, up to `tries` times; a space of at most 10,000 values is then listed,
    so that none is left out. Raises InputError where no parameter is a number, choice or flag.
    """

    needs_llm = False
    Config: ClassVar[type[Options]] = NumericOptions

    def propose(self, state: State, n: int) -> list[Candidate]:
        space = Space.of(state, self.config.log)
        if not space.axes and not space.categories:
            raise InputError(
                f"numeric is given {', '.join(f'{p.name} ({p.kind})' for p in state.params) or 'no parameter'}",
                allowed="at least one parameter that is a number, an integer, a choice or a flag",
                next_step="optimizer='opro' or 'optoprime' propose texts and code",
            )
        sampler = self._sampler(space, len(state.history))
        drawn = self._drawn(state, space, sampler)
        found = list(fresh(state, space, drawn, n, self.config.tries))
        return [Candidate(values, f"proposed by {sampler}") for values in found]

    def _sampler(self, space: Space, known: int) -> Sampler:
        """The one that is used: CMA-ES is one of numbers, and better than TPE in long runs."""
        wanted: Sampler = self.config.sampler
        if wanted == "auto":
            return "cmaes" if known > WARM and not space.categories else "tpe"
        return "tpe" if wanted == "cmaes" and not space.axes else wanted

    def _drawn(self, state: State, space: Space, sampler: Sampler) -> Iterator[dict[str, Any]]:
        """One proposal after the other, for ever."""
        scores = comparable_scores(state.history)
        if sampler != "cmaes":
            yield from _by_optuna(state, space, scores, sampler, self.config.startup)
            return
        told = [([axis.unit(e.candidate.values[axis.param.name]) for axis in space.axes], score)
                for e, score in zip(state.history, scores, strict=True)]  # fmt: skip
        warm = WARM if self.config.sampler == "auto" else 0
        asked = points(told, self.candidates, state.rng.getrandbits(32), self.config.population, warm=warm)
        others = Space((), space.categories)
        rest = (
            _by_optuna(state, others, scores, "tpe", self.config.startup) if others.categories else itertools.repeat({})
        )
        for point, chosen in zip(asked, rest, strict=False):
            yield {axis.param.name: axis.value(u) for axis, u in zip(space.axes, point, strict=True)} | chosen


def _by_optuna(
    state: State, space: Space, scores: Sequence[float | None], sampler: Sampler, startup: int
) -> Iterator[dict[str, Any]]:
    """What a study of the history asks for next, one after the other; each stays running in it."""
    distributions = distributions_of(space)
    study = study_of(state, space, scores, sampler, startup, seed=state.rng.getrandbits(32))
    while True:
        with _quiet():
            asked = study.ask(distributions).params
        values = {axis.param.name: _untold(axis, asked[axis.param.name]) for axis in space.axes}
        yield values | {c.param.name: c.values[asked[c.param.name]] for c in space.categories}


def study_of(
    state: State, space: Space, scores: Sequence[float | None], sampler: Sampler, startup: int, *, seed: int
) -> optuna.Study:
    """A study in memory with the history as its finished trials."""
    distributions = distributions_of(space)
    with _quiet():
        chosen: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)
        if sampler == "tpe":
            chosen = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        study = optuna.create_study(direction="maximize", sampler=chosen)
        for evaluation, score in zip(state.history, scores, strict=True):
            study.add_trial(_trial(space, distributions, evaluation.candidate.values, score))
    return study


def _trial(
    space: Space, distributions: Mapping[str, BaseDistribution], values: Mapping[str, Any], score: float | None
) -> optuna.trial.FrozenTrial:
    params: dict[str, Any] = {axis.param.name: _told(axis, values[axis.param.name]) for axis in space.axes}
    params |= {c.param.name: c.place(values[c.param.name]) for c in space.categories}
    state = TrialState.PRUNED if score is None else TrialState.COMPLETE
    return create_trial(params=params, distributions=dict(distributions), value=score, state=state)


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Each parameter as optuna has it: bounded numbers themselves, open ones bent, choices by their number."""
    found = {axis.param.name: _distribution(axis) for axis in space.axes}
    return found | {c.param.name: CategoricalDistribution(range(len(c.values))) for c in space.categories}


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.bend == "open":
        return FloatDistribution(axis.low, axis.high)
    low, high = axis.value(0.0), axis.value(1.0)
    if axis.is_whole:
        return IntDistribution(int(low), int(high), log=axis.bend == "log")
    return FloatDistribution(low, high, log=axis.bend == "log")


def _told(axis: Axis, value: Any) -> Any:
    """The value as a trial has it; one that lies outside the interval stands at its end."""
    if axis.bend == "open":
        return min(axis.high, max(axis.low, axis.bent(value)))
    return min(axis.value(1.0), max(axis.value(0.0), value))


def _untold(axis: Axis, asked: Any) -> Any:
    return axis.straight(asked) if axis.bend == "open" else asked


@contextmanager
def _quiet() -> Iterator[None]:
    """Without optuna's log lines; the caller's own setting stands before and after."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


OPTIMIZER = Numeric
