"""Self-play preference optimization: a completion's reward is how often it is preferred to its siblings.

Paper: Swamy et al., A Minimaximalist Approach to Reinforcement Learning from Human Feedback, 2401.04056. For k
completions o_i of a prompt and a preference C_ij in [0, 1], 1 where o_i is better, with C_ij + C_ji = 1:

    r_i = mean_{j != i} C_ij                                       so sum_i r_i = k/2
    g_i = -beta log(pi(o_i) / pi_ref(o_i)) - entropy log pi(o_i)   log pi(o): the sum over the tokens of o
    A_i = (r_i - 1/2) + (g_i - mean_{j != i} g_j)                  then GRPO's clipped loss

What it means: the policy plays a symmetric game against itself. The equilibrium is the minimax winner, a mixture to
which no answer is preferred more than half of the time. There is one for every preference, also where A beats B, B
beats C and C beats A, so that no scalar reward (Bradley-Terry) can say what is best; of a transitive preference it is
the best answer. No reward model is learnt, and the noise of single comparisons averages out.

The last iterate: such a game has no pull inward, so policies run around the equilibrium and only their average over
time comes near it. Three ways out: beta or entropy above 0, which make the last policy the equilibrium of a softer
game, pi ~ pi_ref^(beta/s) exp(r/s) with s = beta + entropy and r against pi itself; the mean of the weights of several
checkpoints (rl.mixture.average); a mixture of the checkpoints (rl.mixture.Mixture), which is that average over time.

Why the regularizers stand in the reward: J(pi) = E r(o) - beta KL(pi || pi_ref) + entropy H(pi), of whole completions,
is the mean of r + g over o ~ pi, and as E[grad log pi(o)] = 0 its gradient is E[(r + g)(o) grad log pi(o)], at any
length. A KL term at each token of the loss leaves out what a token does to the tokens after it. Siblings are drawn
independently, so neither 1/2 nor their mean of g biases it. So the first update of a batch is exact with loss dr_grpo,
and with dapo up to its division by the tokens that happened to be sampled. `entropy` is for few possible answers: of
free text there is so much that a bonus worth having drowns the preference. Hence the default is beta.

Momentum (Adam's first beta) pushes on when the pull of a game has turned: three arms under Adam end twice as far from
the winner with 0.9 as with 0 (a test). Where a preference may go round in a circle, set trainer.betas: [0.0, 0.999].

When it fails: a k that is small against the noise; a judge with a liking for length; an answer that would win and is
never sampled; a beta so large that the softer game is another game.

Departures from the paper:
1. Its policies are of continuous control; here it is a language model, and the optimizer is GRPO's loss.
2. A completion is compared with its siblings. `queue` adds past completions of the same prompt, which every new one
   meets; they count in r_i as a sibling does.
3. `comparisons`: each meets only so many siblings, drawn anew each time; an unbiased r_i (rl.ops.preference.pairings).
4. beta is 0.05 (TRL's for RLOO), so that the last iterate is of use; the paper's analysis is of the average.
5. `scale` divides r_i - 1/2 by a std if asked to; as the paper does not, the default does not: it magnifies noise.
6. log pi is the sampler's at its temperature, and pi_ref has the same temperature.

Not to be confused with SPPO (2405.00675), Single-stream Policy Optimization (2509.13232) and Self-Supervised Prompt
Optimization (2502.06855), of which the last two go by SPO as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rl.lazy import torch
from rl.methods.base import Batch, Method, MethodConfig, Tools, rewards_tensor
from rl.methods.grpo import Grpo, GrpoConfig
from rl.ops.advantages import Scale, nan_std
from rl.ops.policy import Correction, Kind
from rl.ops.preference import cyclic_triples, pairings, symmetrized, win_rates
from rl.preferences import Contest, PreferenceConfig, Verdict, preference_of
from rl.types import Group

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["METHOD", "Spo", "SpoConfig", "preference_matrix", "spo_advantages", "win_rates"]


class SpoConfig(MethodConfig):
    """Settings of SPO.

    `preference`: who compares: a program as "file.py:function", or a section of kind program, judge, reward_model,
    rewards or ranker. `comparisons`: how many siblings each completion meets, null for all. `queue`: how many past
    completions of a prompt are kept, in the checkpoint too. `beta`, `entropy`, `scale`: see the module. The others are
    GRPO's.
    """

    kind: Literal["spo"] = "spo"
    preference: PreferenceConfig
    comparisons: int | None = Field(default=None, ge=1)
    queue: int = Field(default=0, ge=0)
    beta: float = Field(default=0.05, ge=0)
    entropy: float = Field(default=0.0, ge=0)
    scale: Scale = "none"
    loss: Kind = "dapo"
    clip_low: float = Field(default=0.2, ge=0)
    clip_high: float | None = Field(default=None, ge=0)
    sampler_correction: Correction | Literal["none"] = "sequence_mask"
    sampler_high: float | None = Field(default=3.0, gt=0)


class Spo(Method):
    """SPO. See the module for formulas and departures."""

    Config = SpoConfig
    paper = "2401.04056"
    title = "Self-play preference optimization"
    config: SpoConfig

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.preference = preference_of(config.preference, near)
        shared = ("loss", "clip_low", "clip_high", "sampler_correction", "sampler_high")
        self.clipped = Grpo(GrpoConfig(**{name: getattr(config, name) for name in shared}))
        self.queues: dict[str, list[tuple[str, float | None]]] = {}

    @classmethod
    def needs_rewards(cls, config: Any) -> bool:
        return bool(config.preference.kind == "rewards")

    @property
    def needs_reference(self) -> bool:
        return self.config.beta > 0

    def prepare(self, groups: list[Group], tools: Tools) -> list[Group]:
        """Rewards become win rates; a completion that was not compared has none."""
        contests = [self._contest(group, f"{self.seed}/{tools.step}/{place}") for place, group in enumerate(groups)]
        self.preference.check = tools.check
        verdicts = tools.shared(contests, self.preference)
        self.metrics = statistics(contests, verdicts, [_siblings(group) for group in groups])
        for group, contest, given in zip(groups, contests, verdicts, strict=True):
            self._remember(group)
            _fill(group, win_rates(preference_matrix(contest, given)).tolist(), given)
        self.metrics["queue_size"] = float(sum(len(queue) for queue in self.queues.values()))
        return groups

    def advantages(self, groups: Sequence[Group]) -> Tensor:
        """(P, G) win rates less 1/2, and the regularizers less their siblings' mean."""
        rewards = rewards_tensor(groups)
        logprobs = _padded([[math.fsum(r.logprobs) for r in group.rollouts] for group in groups], rewards)
        bonus = -self.config.entropy * logprobs
        sums = {"completion_entropy": -logprobs}
        if self.needs_reference:
            sums["completion_kl"] = logprobs - _padded([group.ref_logprobs for group in groups], rewards)
            bonus = bonus - self.config.beta * sums["completion_kl"]
        known = {name: values[~rewards.isnan()] for name, values in sums.items()}
        self.metrics |= {name: float(values.mean()) for name, values in known.items() if len(values)}
        return spo_advantages(rewards, bonus, scale=self.config.scale)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """GRPO's, without a term for the KL, which the advantages hold."""
        return self.clipped.loss(batch)

    def close(self) -> None:
        self.preference.close()

    def state_dict(self) -> dict[str, Any]:
        """The queues: prompt id -> [completion, reward] rows, oldest first."""
        return {"queues": {name: [list(row) for row in queue] for name, queue in self.queues.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.queues = {name: [(text, reward) for text, reward in queue] for name, queue in state["queues"].items()}

    def _contest(self, group: Group, seed: str) -> Contest:
        """The group's completions, then the prompt's queue."""
        siblings, queue = _siblings(group), self.queues.get(group.prompt.id, [])
        k = len(siblings)
        rows = [(group.rollouts[i].text, group.rewards[i]) for i in siblings] + queue
        pairs = pairings(k, self.config.comparisons, seed) + [(i, k + q) for i in range(k) for q in range(len(queue))]
        return Contest(group.prompt, tuple(text for text, _ in rows), tuple(reward for _, reward in rows), tuple(pairs))

    def _remember(self, group: Group) -> None:
        if self.config.queue:
            new = [(group.rollouts[i].text, group.rewards[i]) for i in _siblings(group)]
            self.queues[group.prompt.id] = [*self.queues.get(group.prompt.id, []), *new][-self.config.queue :]


def spo_advantages(rates: Tensor, bonus: Tensor, *, scale: Scale = "none", eps: float = 1e-4) -> Tensor:
    """(P, G) A_i = (r_i - 1/2) / std + (g_i - mean_{j != i} g_j) of win rates r and regularizers g, both (P, G).

    A rate of NaN gives 0 and counts in no mean. std: 1 (`none`), of the group's or of the batch's rates, plus eps.
    """
    known = ~rates.isnan()
    std = 1.0 if scale == "none" else nan_std(rates, dim=1 if scale == "group" else None) + eps
    bonus = bonus.masked_fill(~known, torch.nan)
    count = known.sum(1, keepdim=True)
    apart = (bonus - torch.nanmean(bonus, dim=1, keepdim=True)) * count / (count - 1).clamp(min=1)
    return torch.nan_to_num((rates - 0.5) / std, nan=0.0) + torch.nan_to_num(apart, nan=0.0)


def preference_matrix(contest: Contest, verdicts: Sequence[Verdict]) -> Tensor:
    """(n, n) C_ij of a contest of n, NaN for pairs without a verdict, 1/2 on the diagonal."""
    matrix = torch.full((len(contest.texts), len(contest.texts)), torch.nan, dtype=torch.float64)
    for (i, j), verdict in zip(contest.pairs, verdicts, strict=True):
        if verdict.value is not None:
            matrix[i, j] = verdict.value
    return symmetrized(matrix)


def statistics(
    contests: Sequence[Contest], verdicts: Sequence[Sequence[Verdict]], siblings: Sequence[Sequence[int]]
) -> dict[str, float]:
    """What the comparisons of a batch were like; shares of nothing are left out.

    `comparisons`: pairs; `unjudged`: the share without a verdict; `margin`: mean |C - 1/2|; `ties`; of a preference
    that was asked in both orders `order_disagreement`: mean |difference|; `intransitive`: the share of cycles among
    the triples of siblings that hold no tie.
    """
    flat = [verdict for row in verdicts for verdict in row]
    margins = [abs(v.value - 0.5) for v in flat if v.value is not None]
    orders = [v.disagreement for v in flat if v.disagreement is not None]
    triples = [
        cyclic_triples(preference_matrix(contest, row)[: len(own), : len(own)])
        for contest, row, own in zip(contests, verdicts, siblings, strict=True)
    ]
    decided = sum(n for _, n in triples)
    shares = {
        "unjudged": (sum(v.value is None for v in flat), len(flat)),
        "margin": (math.fsum(margins), len(margins)),
        "ties": (sum(margin < 1e-9 for margin in margins), len(margins)),
        "order_disagreement": (math.fsum(orders), len(orders)),
        "intransitive": (sum(cycles for cycles, _ in triples), decided),
    }
    return {"comparisons": float(len(flat))} | {name: total / n for name, (total, n) in shares.items() if n}


def _siblings(group: Group) -> list[int]:
    """The places of the completions that are there."""
    return [i for i, rollout in enumerate(group.rollouts) if rollout.finish_reason != "error"]


def _fill(group: Group, rates: Sequence[float], verdicts: Sequence[Verdict]) -> None:
    """Write the win rates as rewards, and why some are missing."""
    known = dict(zip(_siblings(group), rates, strict=False))  # the queue's, at the end, are nobody's reward
    group.rewards = [None if math.isnan(known.get(i, math.nan)) else known[i] for i in range(len(group.rollouts))]
    if reasons := [verdict.error for verdict in verdicts if verdict.error]:
        group.meta["reward_errors"] = {**group.meta.get("reward_errors", {}), "preference": reasons[0]}


def _padded(rows: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """(P, G) of ragged rows, 0 beyond their ends."""
    return torch.tensor([[*row, *[0.0] * (like.shape[1] - len(row))] for row in rows], dtype=like.dtype)


METHOD = Spo
