"""Absolute Zero Reasoner: one policy proposes tasks and solves them, and learns both.

Paper: 2505.03335. A task is a program triplet (f, input, output = f(input)) of which one part is hidden: deduction the
output, abduction the input, induction the program. With s the mean success of n solutions of a proposed triplet:

    r_propose = 1 - s if 0 < s < 1, else 0                  (learnability)
    r_solve   = 1 if the answer is right, else 0
    R = r if r > 0;  -0.5 if r = 0 in the right form;  -1 in a wrong form
    A = (R - mu_cell) / sigma_cell, over the tokens of a cell: one of (role, task), six in all

and the clipped policy loss. What it means: the proposer is paid for tasks that the solver can do, but seldom; the
solver practises on them. r_propose is greatest at the lowest success above 0 (7/8 at n = 8), not at one half. Of a task
that the solver gets right with the chance p it is (1 - p) - (1 - p)^n on average, which is greatest at
p = 1 - n^(-1/(n-1)): .26 at n = 8.

What it assumes: an executor that says whether a proposal is valid and an answer right (here engine.sandbox), and a
model that can propose something valid at first. When it fails: watch azr/valid (few valid proposals), azr/duplicates
(the proposer repeats itself), azr/learnable (the share of tasks with signal for the solver) and the sizes of the
buffers. A program near its time limit may be valid in one run and not in the next: then a resumed run differs too.

The source `triplets` holds the buffers and words the tasks, the reward `triplet` judges solutions. Valid proposals
that are new go into the buffers; each valid one is solved `samples` times, and so are `replay` others of each buffer.

Departures from the paper and the authors' code:
1. The n solutions that estimate s are a solve group of this step (theirs are thrown away, and others sampled), so a
   step solves what was just proposed. `replay` adds what the buffers hold.
2. Duplicates do not enter a buffer. Equal proposals of one batch are solved once and share what they earn: a reward of
   r_propose / m for each of m, so that a crowd at one task earns no more than one proposer of it.
   A full buffer drops its oldest triplet (theirs takes no more).
3. Values are literals, read without evaluation; what has no literal is not valid, and nothing is cut short. Values are
   equal in exact type (1 is not True). Outputs are compared outside of the sandbox, which never sees them.
4. A proposal that is measured on is not valid, and has no reward: its proposer could not know.
5. An induction needs all of its inputs, different ones, and is right only if all hidden pairs are.
6. sigma is unbiased and has no epsilon; a cell without variance has advantage 0.
7. Groups of `policy.completions` proposals share a prompt (theirs: one each), whitened by cell all the same.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, overload

from pydantic import Field

from engine.errors import ConfigError, InputError
from rl.lazy import torch
from rl.methods.base import Tools, rewards_tensor
from rl.methods.grpo import Grpo, GrpoConfig
from rl.sources.triplets import Triplets
from rl.triplets import Proposal, Task, Triplet
from rl.types import Group

if TYPE_CHECKING:
    from torch import Tensor

WRONG, WRONG_FORM = -0.5, -1.0

Name = tuple[Task, str]
"""What tells triplets apart: task and key."""

Outcome = Triplet | str
"""What became of a proposal: a triplet, or the reason why it is not valid."""


class AzrConfig(GrpoConfig):
    """Settings beside GRPO's. `samples`: n. `replay`: triplets that are drawn from each buffer and solved too."""

    kind: Literal["azr"] = "azr"  # type: ignore[assignment]
    clip_high: float | None = Field(default=0.28, ge=0)
    samples: int = Field(default=8, ge=2)
    replay: int = Field(default=0, ge=0)


class Azr(Grpo):
    """Absolute Zero Reasoner. See the module for formulas and departures."""

    Config = AzrConfig
    paper = "2505.03335"
    title = "Absolute Zero Reasoner"
    config: AzrConfig

    def prepare(self, groups: list[Group], tools: Tools) -> list[Group]:
        """The groups of proposals with their rewards, and those of solutions; the buffers grow.

        A group's meta["cell"] is its "role/task". The order is random, so that each minibatch has of all cells.
        Raises ConfigError for another source than `triplets`, InputError for solvers' rewards outside of [0, 1].
        """
        source = tools.source
        if not isinstance(source, Triplets):
            raise ConfigError("the method azr needs its own source", place="source.kind", allowed="triplets")
        read = [[source.proposal(group.prompt, rollout.text) for rollout in group.rollouts] for group in groups]
        distinct = {(p.task, p.key): p for row in read for p in row if isinstance(p, Proposal)}
        found = dict(zip(distinct, tools.shared(list(distinct.values()), source.checked), strict=True))
        valid = {name: triplet for name, triplet in found.items() if isinstance(triplet, Triplet)}
        replayed = [t for task in source.config.tasks for t in source.replay(task, self.config.replay)]
        asked = [*valid.values(), *(t for t in replayed if (t.task, t.key) not in valid)]
        solved = tools.sample([source.question(t) for t in asked], self.config.samples) if asked else []
        success = dict(zip(valid, map(success_rate, solved), strict=False))
        outcomes = [[found[p.task, p.key] if isinstance(p, Proposal) else p for p in row] for row in read]
        new = sum(source.buffers[triplet.task].add(triplet) for triplet in valid.values())
        self.metrics = proposal_metrics(outcomes, success, new) | solver_metrics(solved)
        self.metrics |= {f"azr/buffer/{task}": float(len(source.buffers[task])) for task in source.config.tasks}
        crowd = Counter((t.task, t.key) for row in outcomes for t in row if isinstance(t, Triplet))
        for group, row in zip(groups, outcomes, strict=True):
            reward_proposals(group, row, success, crowd)
        for group in solved:
            reward_solutions(group, [source.answer(group.prompt, rollout.text) for rollout in group.rollouts])
        everything = [*groups, *solved]
        cells = Counter(group.meta["cell"] for group in everything for _ in group.rollouts)
        self.metrics |= {f"azr/count/{cell}": float(count) for cell, count in sorted(cells.items())}
        random.Random(f"azr/{self.seed}/{tools.step}").shuffle(everything)
        return everything

    def advantages(self, groups: Sequence[Group]) -> Tensor:
        """(P, G) rewards whitened within their cell, each completion with the weight of its tokens."""
        rewards = rewards_tensor(groups)
        lengths = torch.zeros(*rewards.shape, 1)
        for p, group in enumerate(groups):
            lengths[p, : len(group.rollouts), 0] = torch.tensor([float(len(r.completion_ids)) for r in group.rollouts])
        return cell_advantages(rewards, [group.meta["cell"] for group in groups], lengths)


@overload
def learnability_reward(success_rate: float) -> float: ...
@overload
def learnability_reward(success_rate: Tensor) -> Tensor: ...
def learnability_reward(success_rate: float | Tensor) -> float | Tensor:
    """1 - s where 0 < s < 1, else 0: what a proposal earns whose solvers succeed with the rate s.

    A number, or a tensor of any shape. Greatest at the lowest success above 0. Raises InputError outside of [0, 1].
    """
    is_number = isinstance(success_rate, float | int)
    rates: Tensor = torch.tensor(success_rate, dtype=torch.float64) if is_number else success_rate  # type: ignore[assignment]
    if not bool(((rates >= 0) & (rates <= 1)).all()):
        raise InputError(f"a success rate of {success_rate}", allowed="0 to 1")
    rewards = torch.where((rates > 0) & (rates < 1), 1 - rates, torch.zeros_like(rates))
    return float(rewards) if is_number else rewards


def cell_advantages(rewards: Tensor, cells: Sequence[Hashable] | Tensor, mask: Tensor | None = None) -> Tensor:
    """A = (r - mu) / sigma with mean and unbiased standard deviation of all rewards of the same cell.

    rewards: (B,) or (P, G), NaN where there is none. cells: the cell of each first index. mask: (..., T), 1 at the
    tokens of a completion: mean and deviation are then over tokens, each with its completion's reward; without a mask
    every completion counts once. The result has the shape of the rewards; NaNs, completions without a token, and
    cells of one reward or of equal ones get 0. Raises InputError for other shapes.
    """
    names = cells.tolist() if isinstance(cells, torch.Tensor) else list(cells)
    if len(names) != len(rewards) or (mask is not None and mask.shape[:-1] != rewards.shape):
        shapes = (
            f"rewards {tuple(rewards.shape)}, {len(names)} cells, mask {None if mask is None else tuple(mask.shape)}"
        )
        raise InputError(shapes, allowed="a cell for each first index of the rewards, and the rewards' shape + (T,)")
    counts = torch.ones_like(rewards) if mask is None else mask.sum(-1).to(rewards.dtype)
    weights = torch.where(rewards.isnan(), 0.0, counts).double()
    values = rewards.nan_to_num(0.0).double()
    advantages = torch.zeros_like(values)
    for name in dict.fromkeys(names):
        rows = torch.tensor([other == name for other in names], device=rewards.device)
        advantages[rows] = _whitened(values[rows], weights[rows])
    return advantages.to(rewards.dtype)


def composite_reward(reward: float, *, is_formed: bool) -> float:
    """The role's reward where it is above 0; else -0.5 for the right form, and -1 for a wrong one in any case."""
    if not is_formed:
        return WRONG_FORM
    return reward if reward > 0 else WRONG


def success_rate(group: Group) -> float | None:
    """The mean reward of a triplet's solutions; None where none has one. Raises InputError outside of [0, 1]."""
    known = [reward for reward in group.rewards if reward is not None]
    if any(not 0 <= reward <= 1 for reward in known):
        raise InputError(
            f"a solution was given the reward {max(known, key=abs):g}",
            place="rewards",
            allowed="0 to 1, as the reward 'triplet' gives; method azr makes its own of them",
        )
    return math.fsum(known) / len(known) if known else None


def reward_proposals(
    group: Group, outcomes: Sequence[Outcome], success: Mapping[Name, float | None], crowd: Mapping[Name, int]
) -> None:
    """Write the rewards of a group of proposals, and its cell. crowd: how many of the batch propose the same.

    A triplet that could not be solved has no reward, nor has one that is held out.
    """
    group.meta["cell"] = f"propose/{group.prompt.columns['triplet']['task']}"
    group.rewards = []
    for rollout, outcome in zip(group.rollouts, outcomes, strict=True):
        if isinstance(outcome, Triplet):
            name = outcome.task, outcome.key
            rate = success[name]
            reward = None if rate is None else composite_reward(learnability_reward(rate) / crowd[name], is_formed=True)
        else:
            reward = composite_reward(0.0, is_formed=outcome != "format")
        group.rewards.append(None if rollout.finish_reason == "error" or outcome == "held_out" else reward)


def reward_solutions(group: Group, answers: Sequence[str | None]) -> None:
    """Make the composite rewards of a group of solutions of right and wrong, and write its cell."""
    group.meta["cell"] = f"solve/{group.prompt.columns['triplet']['task']}"
    group.rewards = [
        None if reward is None else composite_reward(reward, is_formed=answer is not None)
        for reward, answer in zip(group.rewards, answers, strict=True)
    ]


def proposal_metrics(
    outcomes: Sequence[Sequence[Outcome]], success: Mapping[Name, float | None], new: int
) -> dict[str, float]:
    """How many of the proposals were valid and why the others were not, how many repeat another, what they earn."""
    flat = [outcome for row in outcomes for outcome in row]
    valid = [outcome for outcome in flat if isinstance(outcome, Triplet)]
    rates = [rate for t in valid if (rate := success[t.task, t.key]) is not None]
    row = {
        "azr/proposals": float(len(flat)),
        "azr/valid": len(valid) / len(flat),
        "azr/new": float(new),
        "azr/duplicates": float(len(valid) - new),
    }
    if rates:
        row["azr/learnability"] = math.fsum(map(learnability_reward, rates)) / len(rates)
    refused = Counter(outcome for outcome in flat if isinstance(outcome, str))
    return row | {f"azr/refused/{reason}": float(count) for reason, count in sorted(refused.items())}


def solver_metrics(solved: Sequence[Group]) -> dict[str, float]:
    """Mean success and the share of triplets between 0 and 1, by task."""
    rates: dict[str, list[float]] = {}
    for group in solved:
        if (rate := success_rate(group)) is not None:
            rates.setdefault(group.prompt.columns["triplet"]["task"], []).append(rate)
    row = {f"azr/success/{task}": math.fsum(found) / len(found) for task, found in rates.items()}
    return row | {f"azr/learnable/{task}": sum(0 < r < 1 for r in found) / len(found) for task, found in rates.items()}


def _whitened(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted values with mean 0 and unbiased variance 1; zeros where there is no variance, and at weight 0."""
    held = values[weights > 0]
    if not len(held) or bool((held == held[0]).all()):
        return torch.zeros_like(values)
    total = weights.sum()
    centred = values - (weights * values).sum() / total
    variance = (weights * centred.square()).sum() / (total - 1)
    return torch.where(weights > 0, centred / variance.sqrt(), 0.0)


METHOD = Azr
