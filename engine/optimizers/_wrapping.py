"""What optimizers around another optimizer have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine import optimizers
from engine.optimizers.base import Candidate, Evaluation, Optimizer, State
from engine.params import Param


class Wrapping(Optimizer):
    """Another optimizer, the option `of`; what a subclass does not change is the other's. `needs` are both's."""

    needs = frozenset()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._inner = optimizers.make(self.config.of)
        self.needs = type(self).needs | self._inner.needs
        self.needs_llm, self.shown = self._inner.needs_llm, self._inner.shown

    @property
    def candidates(self) -> int:
        return self._inner.candidates

    def asks_llm(self, params: Sequence[Param]) -> bool:
        return self._inner.asks_llm(params)

    def calls(self, params: int) -> int:
        return self._inner.calls(params)

    def answer_tokens(self, params: int) -> int:
        return self._inner.answer_tokens(params)

    def parent(self, state: State) -> Mapping[str, Any]:
        return self._inner.parent(state)

    def propose(self, state: State, n: int) -> list[Candidate]:
        return self._inner.propose(state, n)

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        self._inner.observe(evaluations)

    def state_dict(self) -> dict[str, Any]:
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._inner.load_state_dict(state)
