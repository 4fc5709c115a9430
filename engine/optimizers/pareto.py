"""Pareto selection and merging (GEPA, arXiv 2507.19457) around any other optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from engine.errors import AnswerError, BudgetSpent
from engine.optimizers._wrapping import Wrapping
from engine.optimizers.base import Candidate, Evaluation, Options, State, values_key
from engine.pareto import front, vector_of, wins

Values = Mapping[str, Any]

PAIRS = 200
"""Pairs looked at for a merge, drawn at random where the front has more."""


class ParetoOptions(Options):
    of: str | dict[str, Any] = Field(default="optoprime", description="the optimizer, as a name or with its options")
    merge: float = Field(
        default=0.5, ge=0, le=1, description="probability that a candidate merges two known ones, while there are such"
    )


class Pareto(Wrapping):
    """Another optimizer that works from a candidate that is best somewhere, not from the best on average.

    Each pair of an example and an objective (`Feedback.score` may be a mapping) is a coordinate. The
    values that a step works from are drawn from those evaluated that no other dominates, with
    weights by the number of coordinates on which they are the best (GEPA, algorithm 2). With probability
    `merge` a candidate costs no call: two of the front are merged, the pair first that is together best on most
    coordinates; each parameter is taken from the one that changed it since their latest common ancestor, from the
    one with the higher mean if both did. What a merge would give is never tried twice.

    Compared are candidates that were evaluated on all of the data. With `batch_size` or `halving` these are the ones
    that got so far: the others are known on too few examples. Where the start
    has no scores, and where a ranker judges (its win rates hold within a step alone), the values held are
    the parent, and nothing is merged.

    Departures from the paper: dominance is the textbook's over all coordinates (GEPA's code also drops a
    candidate whose every win is shared); a pair is chosen by what it covers and not at random; the ancestor may
    have a higher mean than both; a merge is evaluated as any other candidate. Acceptance is the loop's: by the
    mean of all objectives. Who wants other weights scales the scores that the feedback gives;
    `Result.front` has the candidates of which no objective is worth less. `candidates` is the wrapped optimizer's.
    """

    needs = frozenset({"score"})
    Config: ClassVar[type[Options]] = ParetoOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parents: dict[str, list[str]] = {}
        self._from: list[str] = []
        self._merged: dict[str, list[str]] = {}
        self._history: Sequence[Evaluation] = ()
        self._known: _Known | None = None

    def parent(self, state: State) -> Values:
        known = self._compared(state)
        if known is None:
            return state.current
        weights = [len(coordinates) for coordinates in known.wins]
        return state.rng.choices(known.front, weights)[0].candidate.values if any(weights) else state.current

    def propose(self, state: State, n: int) -> list[Candidate]:
        self._from = [values_key(state.current)]
        self._merged = {}
        wanted = sum(state.rng.random() < self.config.merge for _ in range(n))
        found = [
            Candidate({p.name: values[p.name] for p in state.params}, "merged")
            for values in itertools.islice(self._merges(state), wanted)
        ]
        if len(found) == n:
            return found
        try:
            return found + self._inner.propose(state, n - len(found))
        except (AnswerError, BudgetSpent) as error:
            if not found:
                raise
            return [*found, *([Candidate({}, fault=error.message)] if isinstance(error, AnswerError) else [])]

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            key = values_key(evaluation.candidate.values)
            self._parents[key] = self._merged.get(key, self._from)
        self._inner.observe(evaluations)

    def state_dict(self) -> dict[str, Any]:
        return {"parents": self._parents, "of": self._inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._parents = {key: list(parents) for key, parents in state["parents"].items()}
        self._inner.load_state_dict(state["of"])

    def _compared(self, state: State) -> _Known | None:
        """`_Known.of`, once a step."""
        history = state.history
        if not isinstance(history, tuple) or history is not self._history:
            self._history, self._known = history, None if state.is_ranked else _Known.of(history)
        return self._known

    def _merges(self, state: State) -> Iterator[Values]:
        """Merges of two of the front that were not evaluated yet, those of the most complementary pairs first."""
        known = self._compared(state)
        if known is None:
            return
        by_key = {values_key(e.candidate.values): e.candidate.values for e in state.history}
        pairs = list(itertools.combinations(range(len(known.front)), 2))
        pairs = state.rng.sample(pairs, min(PAIRS, len(pairs)))
        for i, j in sorted(pairs, key=lambda pair: -len(known.wins[pair[0]] | known.wins[pair[1]])):
            one, other = sorted((known.front[i], known.front[j]), key=lambda e: e.rank, reverse=True)
            keys = [values_key(e.candidate.values) for e in (one, other)]
            ancestor = by_key[self._common_ancestor(keys[0], keys[1], list(by_key))]
            values = merged(ancestor, one.candidate.values, other.candidate.values)
            key = values_key(values)
            if key not in by_key and key not in self._merged:
                self._merged[key] = keys
                yield values

    def _common_ancestor(self, one: str, other: str, order: Sequence[str]) -> str:
        """The latest in order that both come from; each counts among its own ancestors, the start among all."""
        common = (self._ancestors(one) & self._ancestors(other)) | {order[0]}
        return next(key for key in reversed(order) if key in common)

    def _ancestors(self, key: str) -> set[str]:
        found, waiting = set(), [key]
        while waiting:
            if (key := waiting.pop()) not in found:
                found.add(key)
                waiting += self._parents.get(key, ())
        return found


def merged(ancestor: Values, better: Values, other: Values) -> dict[str, Any]:
    """Each value from whichever changed it since the ancestor; from the better one if both did."""
    return {name: better[name] if better[name] != value else other[name] for name, value in ancestor.items()}


@dataclass(frozen=True)
class _Known:
    """The front of what was evaluated on all of the data, and the coordinates on which each of it is the best."""

    front: Sequence[Evaluation]
    wins: Sequence[set[Any]]

    @classmethod
    def of(cls, history: Sequence[Evaluation]) -> _Known | None:
        """None where scores are missing that could be compared."""
        start = history[0]
        judged = [s for s, failed in zip(start.scores, start.failed, strict=True) if not failed]
        if judged and all(score is None for score in judged):
            return None
        pool = [e for e in history if {*e.examples} == {*start.examples}]
        vectors = [vector_of(e.examples, e.feedback) for e in pool]
        places = front(vectors)
        return cls([pool[i] for i in places], wins([vectors[i] for i in places]))


OPTIMIZER = Pareto
