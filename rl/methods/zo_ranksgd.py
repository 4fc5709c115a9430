"""Descent by rankings alone: no gradient, no score, only which of a few candidates are better (ZO-RankSGD).

Paper: 2303.03751 (algorithms 1 and 2). The (m, k) oracle ranks the k best of m; E holds every (better, worse)
pair that follows:

    candidates  x + mu xi_i,  xi_i ~ N(0, I),  i = 1..m
    g = 1/|E| sum_{(i,j) in E} (xi_j - xi_i) = sum_i w_i xi_i            (engine.ranking.oracle)
    line search: x <- the winner, by ranking, of {x, x - eta gamma^i g : i = 0..l-1}

What it means: g points to where it gets worse, and any monotone transform of the objective gives the same steps.
What it assumes: few dimensions (cos(g, gradient) ~ sqrt(m / (m + d))), and mu small beside the landscape
yet large enough for the ranker to see a difference. People rank in at most some 50 dimensions: give them a
Subspace. When it fails: without line search a fixed step stops improving at a distance that depends on eta; in
20 dimensions CMA-ES is better from some 2,000 ranked points on. Watch whether x itself keeps winning: then
eta gamma^(l-1) is too long, or mu is below what the ranker sees.

Values: m = k = 15, l = 5, gamma 0.1 and mu 0.01 are the paper's. gamma 0.5 is better for the first 500 points, and
in 100 dimensions for the first 2,000 (benchmarks/zo_ranksgd.py). A subspace's directions are of length 1 over all
weights together, so there mu and eta are larger: 3 and 8 for sixteen of them through the adapters of a 135 M model,
0.5 through a soft prompt (configs/zo_ranksgd.yaml).

Departures from the paper:
1. Weights are of the pairs, exactly; the authors' code is off by one, so theirs do not sum to 0 and drift.
2. Ties and missing answers: pairs of a tie, and of a candidate that is not named, are not in E.
3. `accumulate`: while x itself wins, estimates at x are averaged, and the line search follows their mean.
4. In a line search a tie with x is a win of x; of several tied steps the longest is taken.
5. Who cannot judge, or tells nobody apart, teaches nothing: the next candidates have new noise; a line search
   leaves x as if x had won.
6. Candidates are made from a float32 copy of x, and noise follows from (seed, round, candidate).

As a method of a config, x are the coefficients of a subspace (`space.dims`) of weights, adapters or a soft prompt,
`trainer.lr` is eta, and a step is one ranking: of perturbations, or of a line search. `ranker` says who ranks: what was
measured (a loss or a reward whose size nobody sees), a language model, a file, or a program. Candidates that make the
model write the very same are shown once and are a tie; watch `distinct`: where it is 1 nothing was asked, and mu is
too small.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from engine.config import Config
from engine.errors import ConfigError, InputError, NonFinite, Stopped
from engine.ranking import Ranker, Ranking
from engine.ranking.oracle import ranking_weights
from engine.ranking.question import MOST
from engine.ranking.ranking import Id
from rl.methods._ranksgd import ZORankSGD, loss_ranker, run
from rl.methods._zeroth_order import Measured, Point, SpaceConfig, ZerothOrderConfig, ZerothOrderMethod
from rl.methods.base import MethodConfig
from rl.ops.perturbation import Subspace, Tensors
from rl.rankers import AnyRanker, FormRankerConfig, RankerConfig, check_fallback, short, with_fallback

__all__ = ["METHOD", "Subspace", "ZORankSGD", "loss_ranker", "ranking_weights", "run"]

SLICE_S = 5.0
"""How long a ranker is waited for until it is looked whether somebody wants the run to stop."""


class ScoresConfig(Config):
    """By what was measured: the lower loss, or the higher reward, is better. `noise`: the standard deviation of normal
    noise on each measurement; as much as 1e9 ranks at random, which is a control."""

    kind: Literal["scores"] = "scores"
    noise: float = Field(default=0.0, ge=0)


class RankedSpaceConfig(SpaceConfig):
    """As in SpaceConfig; a subspace by default."""

    dims: int | None = Field(default=16, ge=1)


class ZoRankSgdConfig(ZerothOrderConfig):
    """`m`, `k`: candidates of a ranking, and how many of them are put in order. `line_search`, `gamma`, `accumulate`:
    as in ZORankSGD. `ranker`: who ranks; all but `scores` see completions, with `objective: samples` no reward is
    needed. `question`: what is asked of a ranker.

    `deadline_s`: how long a ranking is waited for; null: for ever. `on_absent`: what then happens: `stop` ends the
    run, which goes on with --resume, `skip` goes on without that ranking, `fallback` asks the ranker of that name too.
    `most_dims`: more dimensions are refused."""

    kind: Literal["zo_ranksgd"] = "zo_ranksgd"
    objective: Literal["loss", "reward", "samples"] = "loss"  # type: ignore[assignment]
    space: RankedSpaceConfig = RankedSpaceConfig()
    mu: float = Field(default=0.01, gt=0)
    m: int = Field(default=15, ge=2)
    k: int = Field(default=15, ge=1)
    line_search: int = Field(default=5, ge=0)
    gamma: float = Field(default=0.1, gt=0, lt=1)
    accumulate: bool = True
    ranker: Annotated[ScoresConfig | AnyRanker, Field(discriminator="kind"), BeforeValidator(short)] = ScoresConfig()
    question: str = "Which of these continues the prompts best?"
    deadline_s: float | None = Field(default=None, gt=0)
    on_absent: Literal["stop", "skip", "fallback"] = "stop"
    fallback: RankerConfig | None = None
    most_dims: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.k > self.m:
            raise ValueError(f"k is {self.k} and m is {self.m}; of m candidates at most m can be put in order")
        if self.offload:
            raise ValueError("candidates are values of a copy of x, so weights cannot stay elsewhere: offload is false")
        if self.ranker.kind == "scores" and self.objective == "samples":
            raise ValueError("objective samples has no scores to rank by; name another ranker, or loss or reward")
        if self.ranker.kind != "scores" and self.objective == "loss":
            raise ValueError(
                f"the ranker {self.ranker.kind} is shown completions, and objective loss samples none; "
                "take objective samples, or reward"
            )
        if isinstance(self.ranker, FormRankerConfig) and max(self.m, self.line_search + 1) > MOST:
            raise ValueError(
                f"people rank at most {MOST} candidates at once; m is {self.m}, and a line search has line_search + 1, "
                f"which is {self.line_search + 1}"
            )
        check_fallback(self)
        return self


class ZoRankSgd(ZerothOrderMethod):
    """ZO-RankSGD. See the module."""

    Config: ClassVar[type[MethodConfig]] = ZoRankSgdConfig
    paper = "2303.03751"
    title = "Descent by rankings: which candidates are better, and no score"
    moves_values = True
    config: ZoRankSgdConfig

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.optimizer: ZORankSGD | None = None
        self.ranker = self._ranker(near)

    @property
    def is_scored(self) -> bool:
        """Whether what was measured ranks, rather than somebody who is shown what the model writes."""
        return isinstance(self.config.ranker, ScoresConfig)

    def _ranker(self, near: Path | None) -> Ranker:
        config = self.config
        if isinstance(config.ranker, ScoresConfig):
            return loss_ranker(float, noise_std=config.ranker.noise, seed=self.seed)
        return with_fallback(config, k=config.k, seed=self.seed, near=near)

    def begin(self, x: Tensors) -> None:
        """Descend from x. Raises ConfigError where it has too many dimensions for rankings to say much of."""
        config, dims = self.config, sum(tensor.numel() for tensor in x.values())
        if dims > config.most_dims:
            raise ConfigError(
                f"x has {dims} dimensions, in which a ranking of {config.m} candidates points within a cosine of "
                f"{math.sqrt(config.m / (config.m + dims)):.3f} of the best direction",
                allowed="a subspace, as method.space.dims=16, or so many: method.most_dims",
            )
        self.optimizer = ZORankSGD(
            x,
            m=config.m,
            k=config.k,
            mu=config.mu,
            eta=self.rate,
            seed=self.seed,
            line_search=config.line_search,
            gamma=config.gamma,
            accumulate=config.accumulate,
        )

    def points(self, step: int) -> Sequence[Point]:
        """The candidates of the round."""
        asked = self._begun().ask()
        self._ids = list(asked)
        return [Point(values=candidate) for candidate in asked.values()]

    def move(self, step: int, rate: float, measured: Sequence[Measured]) -> Point:
        """To where the ranking of the candidates leads. Raises InputError for an answer to another question."""
        optimizer = self._begun()
        is_search, before = optimizer.is_line_search, optimizer.x
        ranking = self._ranking(dict(zip(self._ids, measured, strict=True)))
        optimizer.tell(ranking)
        x = optimizer.x
        is_moved = any(bool((x[name] != before[name]).any()) for name in x)
        self.metrics |= {
            "is_line_search": float(is_search),
            "is_moved": float(is_moved),
            "ranked": float(sum(map(len, ranking.tiers))),
        }
        return Point(values=x)

    def close(self) -> None:
        self.ranker.close()

    def state_dict(self) -> dict[str, Any]:
        """What every round taught."""
        return {} if self.optimizer is None else self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replay the rounds."""
        if state:
            self._begun().load_state_dict(state)

    def _begun(self) -> ZORankSGD:
        assert self.optimizer is not None, "begin() comes first"
        return self.optimizer

    def _ranking(self, found: Mapping[str, Measured]) -> Ranking:
        """What the ranker says of the candidates; of whom nothing is known is not in it."""
        if self.is_scored:
            return self._by_scores({one: measured.loss for one, measured in found.items()})
        same: dict[str, list[Id]] = {}  # what the model writes -> the candidates with which it does
        for one, measured in found.items():
            same.setdefault(measured.shown, []).append(one)
        self.metrics = {"distinct": float(len(same))}
        if len(same) == 1:
            return Ranking([list(found)])
        ids = {str(ids[0]): ids for ids in same.values()}
        answer = self._answer({str(ids[0]): text for text, ids in same.items()})
        if answer is None:
            return Ranking(unranked=list(found), cannot_judge=True)
        return _required(answer, ids).renamed(ids)

    def _by_scores(self, losses: Mapping[str, float]) -> Ranking:
        known: dict[Id, float] = {one: loss for one, loss in losses.items() if not math.isnan(loss)}
        self.metrics = {"best": min(known.values(), default=math.nan), "distinct": float(len(set(known.values())))}
        if not known or (len(known) < len(losses) and self.config.objective == "loss"):
            raise NonFinite(
                f"{len(losses) - len(known)} of {len(losses)} candidates have no number to be ranked by: they are NaN; "
                "x was not changed",
                next_step="a lower method.mu or trainer.lr helps where a loss is NaN; rewards that are all None leave "
                "nothing to rank",
            )
        [ranking] = self.ranker.gather([self.ranker.ask(known)])
        assert ranking is not None
        return ranking

    def _answer(self, shown: Mapping[Id, str]) -> Ranking | None:
        """The ranker's answer; None where it did not come and is done without. Raises Stopped where it is not."""
        deadline_s = None if self.config.on_absent == "fallback" else self.config.deadline_s
        end = math.inf if deadline_s is None else time.monotonic() + deadline_s
        asked: list[str] = []

        def poll() -> list[Ranking | None] | None:
            if not asked:
                asked.append(self.ranker.ask(shown, question=self.config.question))
            answers = self.ranker.gather(asked, deadline_s=min(SLICE_S, max(0.0, end - time.monotonic())))
            return answers if answers[0] is not None or time.monotonic() >= end else None

        [answer] = self.awaited(poll)
        if answer is None and asked and self.config.on_absent == "skip":
            self.ranker.withdraw(asked[0])
        if answer is None and self.config.on_absent == "stop":
            raise Stopped(
                f"no ranking came within {deadline_s:g} s",
                next_step="go on with --resume when there is somebody to answer, or set method.on_absent=skip",
            )
        return answer


def _required(answer: Any, ids: Mapping[str, Any]) -> Ranking:
    """The answer, if it is a ranking of these candidates. Raises InputError."""
    if not isinstance(answer, Ranking):
        raise InputError(f"the ranker answered {answer!r:.80}", allowed="an engine.ranking.Ranking")
    if unknown := [one for one in answer.ids if one not in ids]:
        raise InputError(
            f"no candidate of this round has the id {unknown[0]!r}, which the ranker names",
            allowed=", ".join(ids),
            next_step="let the ranker answer with the ids that it was shown",
        )
    return answer


METHOD = ZoRankSgd
