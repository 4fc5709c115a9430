"""INSTINCT (arXiv 2310.02905): a neural bandit over hidden states picks which of many proposals to pay for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from engine.errors import ParamError
from engine.llm import LLM, resolve
from engine.optimizers._bandit import Array, Network, Pick, covariance, picks, standardized, trained
from engine.optimizers._compared import whole_scores
from engine.optimizers._turns import spoken
from engine.optimizers._wrapping import Wrapping
from engine.optimizers.base import Candidate, Evaluation, Options, State, values_key

EMBEDDED = "local:smollm2-135m"
WIDTH = 100


class InstinctOptions(Options):
    of: str | dict[str, Any] = Field(default="opro", description="who proposes, as a name or with its options")
    pool: int = Field(default=4, ge=1, description="proposals drawn for each one that is paid for")
    nu: float = Field(default=0.3, ge=0, description="how much an unsure candidate is preferred")
    ridge: float = Field(default=0.1, gt=0, description="lambda: of the network's training and of the covariance")
    warmup: int = Field(default=16, ge=1, description="evaluations chosen at random before the bandit chooses")
    training_steps: int = Field(default=100, ge=1, description="of the network, anew before every choice")
    embedder: str | None = Field(
        default=None,
        pattern="^local:.",
        description=f"local:NAME, whose hidden states are read; by default the proposer's, or those of {EMBEDDED}",
    )


class Instinct(Wrapping):
    """Draws `pool` times as many proposals as are wanted, and keeps those of the highest mean + nu sigma.

    x is the mean hidden state of each parameter's value as text, one behind the other. A network of one hidden layer of
    100 units is trained anew in each step on all (x, score); mean is its output, and sigma^2 =
    lambda g(x)^T (lambda I + sum g(s) g(s)^T)^-1 g(x) with g the gradient of the output by all weights, over all
    evaluated s. The first `warmup` evaluations are random among the valid new proposals. The proposals that are
    left out cost tokens and no runs; the reason of a chosen one says its mean, sigma and who embedded it.

    Departures from the paper and its code: proposals are an optimizer's texts and not decoded soft prompts; x is a
    mean over tokens and not the last token's state; scores are standardized, so that nu counts
    in their deviations; the weights start in the scaling in which the gradients are of order one and the network is
    zero, and decay towards the start; gradients are those of the present network for all samples;
    the covariance is whole where the code keeps its diagonal; several candidates are picked in a step, each as if
    those before it had been evaluated. Defaults are the code's (lambda .1; nu .1 under the root), the warm-up is a
    quarter of the default budget as it is there (40 of 165).

    A candidate with a failed run counts as one with the lowest score so far. `candidates` is the proposer's.
    """

    needs = frozenset({"score", "hidden_states"})
    Config: ClassVar[type[Options]] = InstinctOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._embedder: LLM | None = None

    def answer_tokens(self, params: int) -> int:
        return int(self.config.pool) * super().answer_tokens(params)

    def propose(self, state: State, n: int) -> list[Candidate]:
        drawn = self._inner.propose(state, n * self.config.pool)
        fresh, others = _sorted_out(drawn, state)
        chosen = fresh if len(fresh) <= n else self._chosen(fresh, state, n)
        # What is unusable is told to the loop only where too little is usable: it counts against a budget.
        return [*chosen, *others[: n - len(chosen)]]

    def _chosen(self, fresh: Sequence[Candidate], state: State, n: int) -> list[Candidate]:
        seen = _scored(state.history)
        if len(seen) <= self.config.warmup:  # the starting values are one of them
            return state.rng.sample(fresh, n)
        embedder = self._embedding_model(state.llm)
        known = self._embedded(embedder, [evaluation.candidate.values for evaluation, _ in seen], state)
        new = self._embedded(embedder, [{**state.current, **c.values} for c in fresh], state)
        scores, rng = np.array([score for _, score in seen]), np.random.default_rng(state.rng.getrandbits(64))
        note = f"of {len(fresh)} proposals, read by {embedder.name}"
        return [
            _explained(fresh[pick.place], pick, self.config.nu, note)
            for pick in self._picked(known, scores, new, n, rng)
        ]

    def _picked(self, known: Array, scores: Array, new: Array, n: int, rng: np.random.Generator) -> list[Pick]:
        """n of the `new` embeddings, with mean and sigma in the unit of the scores."""
        ridge, nu = self.config.ridge, self.config.nu
        among = np.concatenate([known, new])
        x, y = standardized(known, among), standardized(new, among)
        middle, spread = float(scores.mean()), float(scores.std()) or 1.0
        start = Network.drawn(x.shape[1], WIDTH, rng)
        network = trained(start, x, (scores - middle) / spread, ridge, self.config.training_steps)
        found = picks(network(y), covariance(network, x, y, ridge), n, nu, ridge)
        return [Pick(pick.place, middle + spread * pick.mean, spread * pick.sigma) for pick in found]

    def _embedding_model(self, proposer: LLM | None) -> LLM:
        if self.config.embedder is None and proposer is not None and proposer.can_embed:
            return proposer
        if self._embedder is None:
            self._embedder = resolve(self.config.embedder or EMBEDDED)
        return self._embedder

    def _embedded(self, embedder: LLM, values: Sequence[Mapping[str, Any]], state: State) -> Array:
        """(len(values), P d). One text at a time, because a resumed run asks in other batches for the same digits."""
        rows = [[embedder.embed([text])[0] for text in as_texts(each, state)] for each in values]
        return np.array([np.concatenate(row) for row in rows], dtype=np.float64)


def as_texts(values: Mapping[str, Any], state: State) -> list[str]:
    """The value of each parameter as a text, in the order of their names; of an empty one a line break is read."""
    params = sorted(state.params, key=lambda param: param.name)
    return [spoken(param, values[param.name]) or "\n" for param in params]


def _sorted_out(drawn: Sequence[Candidate], state: State) -> tuple[list[Candidate], list[Candidate]]:
    """The candidates with valid values that were not evaluated yet, each once, and the others."""
    seen = {values_key(evaluation.candidate.values) for evaluation in state.history}
    params = {param.name: param for param in state.params}
    fresh: list[Candidate] = []
    others: list[Candidate] = []
    for candidate in drawn:
        try:
            if candidate.fault:
                raise ParamError(candidate.fault)
            checked = {name: params[name].admit(value, "model")[0] for name, value in candidate.values.items()}
        except (ParamError, KeyError):
            others.append(candidate)
            continue
        key = values_key({**state.current, **checked})
        (others if key in seen else fresh).append(replace(candidate, values=checked))
        seen.add(key)
    return fresh, others


def _scored(history: Sequence[Evaluation]) -> list[tuple[Evaluation, float]]:
    """The evaluations, each with its score, or with the lowest of all where a run failed."""
    told = list(zip(history, whole_scores(history), strict=True))
    lowest = min((score for e, score in told if score is not None and not any(e.failed)), default=0.0)
    return [(e, lowest if score is None or any(e.failed) else score) for e, score in told]


def _explained(candidate: Candidate, pick: Pick, nu: float, note: str) -> Candidate:
    """The candidate, its reason with what it was chosen by."""
    told = f"UCB {pick.mean + nu * pick.sigma:.4g} = {pick.mean:.4g} + {nu:g} x {pick.sigma:.4g}, {note}"
    return replace(candidate, reason=f"{candidate.reason}; {told}" if candidate.reason else told)


OPTIMIZER = Instinct
