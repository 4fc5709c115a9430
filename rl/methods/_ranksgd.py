"""The descent of ZO-RankSGD as ask and tell; its paper, and what departs from it, are in zo_ranksgd."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from engine.errors import CheckpointError, EngineError, InputError
from engine.ranking import ProgramRanker, Ranker, Ranking
from engine.ranking.oracle import Levels, check_oracle, level_weights, ranked_levels
from engine.ranking.ranking import Id
from rl.lazy import torch
from rl.ops.perturbation import Space, Tensors, noise, stream

Entry = list[list[int]] | int
"""What one round taught: the levels of its perturbations, or the number of the line search's winner."""


class ZORankSGD:
    """Ask for candidates, have them ranked, tell the ranking; rounds of perturbations and line searches alternate.

    x0: a vector, a tensor of any shape, or a dict of tensors by name. m, k: candidates of a round, and how many of
    them the ranker puts in order. mu: size of the perturbations. eta: the longest step, in units of g.
    line_search: l, the steps that are ranked beside x; 0 takes the step eta unseen. gamma: ratio of one step to
    the one before. accumulate: average the next estimate into the old one where x itself won.
    Raises InputError for settings or an x0 that cannot be used.
    """

    def __init__(
        self,
        x0: Any,
        *,
        m: int,
        k: int,
        mu: float,
        eta: float,
        seed: int = 0,
        line_search: int = 5,
        gamma: float = 0.1,
        accumulate: bool = True,
    ) -> None:
        check_oracle(m, k)
        _check(mu, eta, gamma, line_search)
        self.m, self.k, self.mu, self.eta, self.seed = m, k, mu, eta, seed
        self.line_search, self.gamma, self.accumulate = line_search, gamma, accumulate
        self._space = Space(x0)
        self._x0 = self._space.pack(x0)
        self._start = _digest(
            json.dumps([m, k, mu, eta, seed, line_search, gamma, accumulate]).encode(),
            *(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() for name, tensor in self._x0.items()),
            *(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes() for tensor in self._x0.values()),
        )
        self._begin()

    @property
    def x(self) -> Any:
        """Where the descent is, in the form and dtypes of x0: a copy."""
        return self._space.unpack(self._x)

    @property
    def round(self) -> int:
        """How many rankings were told."""
        return len(self._history)

    @property
    def is_line_search(self) -> bool:
        """Whether the round's candidates are x and the steps from it."""
        return self._is_search

    def ask(self) -> dict[str, Any]:
        """id -> candidate of this round, in an order that says nothing; the same until tell()."""
        return {one: self._space.unpack(self._candidate(number)) for one, number in self._numbers().items()}

    def tell(self, ranking: Ranking) -> None:
        """Learn from a ranking of the candidates, the best first; of those that it does not name nothing is known.

        Raises InputError for an id that this round did not give, one of an earlier round among them.
        """
        if self._is_search:
            levels = ranked_levels(ranking, self._numbers(), self.line_search + 1)
            self._apply(_winner(levels) if ranking.tiers else 0)
        else:
            self._apply(ranked_levels(ranking, self._numbers(), self.k))

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON: the seed and what each round taught. x and the noise follow from it and x0."""
        return {"start": self._start, "seed": self.seed, "history": list(self._history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replay the rounds from x0: the next ask() is the very same.

        Raises CheckpointError for a state of another x0, other settings or another seed, or a damaged one.
        """
        history = state.get("history")
        if state.get("start") != self._start:
            raise CheckpointError(
                "the state is of another x0, other settings or another seed",
                next_step="make the optimizer as it was made when the state was saved",
            )
        if not isinstance(history, list):
            raise CheckpointError(f"the history is {history!r:.80}", allowed="a list, with what each round taught")
        replayed = copy.copy(self)  # so that a damaged state changes nothing
        replayed._begin()
        for number, entry in enumerate(history):
            most = self.line_search if replayed._is_search else self.m - 1
            if not _is_entry(entry, is_search=replayed._is_search, most=most):
                raise CheckpointError(f"entry {number} of the history is {entry!r:.80}")
            replayed._apply(entry)
        self.__dict__.update(replayed.__dict__)

    def _begin(self) -> None:
        self._x: Tensors = {name: tensor.clone() for name, tensor in self._x0.items()}
        self._direction: Tensors = {}  # the mean of the estimates at x; empty before the first
        self._averaged = 0
        self._is_search = False
        self._history: list[Entry] = []
        self._name = self._start  # names the round: all that led to it

    def _apply(self, entry: Entry) -> None:
        """Learn what a round taught; its noise is that of the rounds before."""
        if isinstance(entry, int):
            self._move(entry)
        else:
            self._estimate(entry)
        self._history.append(entry)
        self._name = _digest(self._name.encode(), json.dumps(entry).encode())

    def _estimate(self, levels: Levels) -> None:
        """Average what the levels say into the direction, and go on to the line search."""
        weights = level_weights(levels, self.m)
        if not any(weights):
            return
        estimate = {name: torch.zeros_like(tensor) for name, tensor in self._x.items()}
        for number, weight in enumerate(weights):
            for name, tensor in self._noise(number).items() if weight else ():
                estimate[name] += weight * tensor
        self._averaged += 1
        if old := self._direction:
            estimate = {name: old[name] + (new - old[name]) / self._averaged for name, new in estimate.items()}
        self._direction = estimate
        self._is_search = self.line_search > 0
        if not self._is_search:
            self._move(1)

    def _move(self, winner: int) -> None:
        """Go to the winner of the line search; 0 is x itself."""
        if winner:
            self._x = self._stepped(winner)
        if winner or not self.accumulate:
            self._direction, self._averaged = {}, 0
        self._is_search = False

    def _stepped(self, number: int) -> Tensors:
        """x - eta gamma^(number - 1) g."""
        step = self.eta * self.gamma ** (number - 1)
        return {name: self._x[name] - step * slope for name, slope in self._direction.items()}

    def _candidate(self, number: int) -> Tensors:
        if self._is_search:
            return self._stepped(number) if number else self._x
        drawn = self._noise(number)
        return {name: tensor + self.mu * drawn[name] for name, tensor in self._x.items()}

    def _noise(self, number: int) -> Tensors:
        return noise(self._x, self.seed, self.round, number)

    def _numbers(self) -> dict[str, int]:
        """id -> number of the candidate, ordered by ids, which are drawn from all that led to the round."""
        count = self.line_search + 1 if self._is_search else self.m
        ids = {f"{self.round}.{stream(self._name, number):016x}": number for number in range(count)}
        return dict(sorted(ids.items()))


def run(
    optimizer: ZORankSGD,
    ranker: Ranker,
    rounds: int,
    *,
    question: str = "",
    shown: Callable[[Any], Any] = lambda candidate: candidate,
    deadline_s: float | None = None,
) -> Any:
    """Ask, have ranked and tell that many rounds; returns x.

    shown: what the ranker sees of a candidate: the text that it makes a model write, an image, a list of numbers
    (a recorded file wants JSON). deadline_s: longest wait for one ranking. Raises Stopped when it passes; what was
    told until then stands.
    """
    for _ in range(rounds):
        items: dict[Id, Any] = {one: shown(candidate) for one, candidate in optimizer.ask().items()}
        [ranking] = ranker.gather([ranker.ask(items, question=question)], deadline_s=deadline_s, on_absent="stop")
        if ranking is None:
            raise EngineError("the ranker gave no ranking")
        optimizer.tell(ranking)
    return optimizer.x


def loss_ranker(loss: Callable[[Any], float], *, noise_std: float = 0.0, seed: int = 0) -> ProgramRanker:
    """Ranks by a loss, lower is better, plus normal noise that follows from the seed and a candidate's id.

    Raises InputError where the loss is NaN; infinity is the worst there is.
    """

    def score(one: Id, candidate: Any) -> float:
        value = float(loss(candidate))
        if math.isnan(value):
            raise InputError(f"the loss of candidate {one} is NaN", allowed="a number, or infinity for the worst")
        source = torch.Generator().manual_seed(stream(seed, str(one)))
        return -value - (noise_std * float(torch.randn((), generator=source)) if noise_std else 0.0)

    return ProgramRanker(lambda items, question: {one: score(one, candidate) for one, candidate in items.items()})


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _winner(levels: Levels) -> int:
    """The candidate of the best level; x where it is among them, else the longest step."""
    return min(levels[0]) if levels else 0


def _is_entry(entry: Any, *, is_search: bool, most: int) -> bool:
    """Whether a round of that kind can have taught this, with candidates 0..most."""
    if is_search:
        return type(entry) is int and 0 <= entry <= most
    if not isinstance(entry, list) or not all(isinstance(level, list) for level in entry):
        return False
    numbers = [number for level in entry for number in level]
    return all(type(n) is int and 0 <= n <= most for n in numbers) and len(set(numbers)) == len(numbers)


def _check(mu: float, eta: float, gamma: float, line_search: int) -> None:
    for name, value in (("mu", mu), ("eta", eta)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value!r}", allowed="a finite number above 0")
    if not 0 < gamma < 1:
        raise InputError(f"gamma is {gamma!r}", allowed="a number between 0 and 1")
    if isinstance(line_search, bool) or not isinstance(line_search, int) or line_search < 0:
        raise InputError(f"line_search is {line_search!r}", allowed="how many steps are ranked beside x; 0 for none")
