"""Consistency-aware policy optimization: where a group agrees, its prompt is compared with the batch's other prompts.

Paper: COPO, 2508.04138 (another work goes by the same acronym). G completions of a prompt, with rewards r_i and
extracted answers of which a share p_a is a:

    H = -sum_a p_a log2 p_a                                     consistency entropy, in bits
    A_i = (r_i - mean r) / (std r + eps)                        local: GRPO's, within the group
    R = mean_i r_i c,  Â = (R - mean R) / (std R + eps)         global: one number a prompt, over the batch's prompts
    w = sigmoid(k (H - b))
    L = w L_clip(A) + (1 - w) L_clip(Â)                         both with the same ratio

What it means: a group whose rewards are all equal teaches GRPO nothing. Here an all-right group (H = 0, w = 0.0067)
is reinforced for being better than the other prompts' groups, an all-wrong one pushed down, and only groups that
disagree with themselves are left to GRPO. What it assumes: rewards of different prompts are comparable, and the
answers can be extracted (`answers` of the first reward that does; without one each text is its own answer, H is near
its maximum and the method is nearly GRPO: watch `copo/unextracted`). When it fails: where prompts differ in
difficulty, for then the global part rewards easy prompts; and where all prompts do equally well, it is 0.

The trap of `soft_with_zero`, the authors' variant: wrong completions have w = 0, so that a wrong completion of a
prompt that does better than the batch's mean is *reinforced*. `copo/reinforced_wrong` is their share; `wrong` gives
two ways out.

The clipped term is positively homogeneous in its advantage, so the loss is computed as L_clip(w A) + L_clip((1 - w) Â).

Departures from the paper:
1. A group counts as a prompt of the batch, also where one prompt stands twice in it.
2. std is unbiased in both places, eps 1e-6 (as the authors' program, which is built on verl, computes them).
3. `wrong`, `right_above`: see CopoConfig. The authors' rewards are 0 and 1.
4. Rollouts without reward count neither in H nor in any mean, and are not trained on.
5. Log-ratios are clamped, and the sampler's log-probs corrected for, as rl.methods.grpo does.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from engine.errors import InputError
from rl.lazy import torch
from rl.methods.base import Batch, Tools, rewards_tensor
from rl.methods.grpo import Grpo, GrpoConfig
from rl.ops.advantages import group_advantages, nan_std
from rl.ops.policy import Kind
from rl.types import Group

if TYPE_CHECKING:
    from torch import Tensor

Variant = Literal["soft", "soft_with_zero", "only_global", "no_global", "soft_with_forced"]
VARIANTS: tuple[Variant, ...] = ("soft", "soft_with_zero", "only_global", "no_global", "soft_with_forced")


class CopoConfig(GrpoConfig):
    """Settings beside GRPO's; the defaults are the paper's.

    `k`, `b`: steepness and middle of the blend, b in bits. `variant`: `soft_with_zero` (w = 0 for wrong completions),
    `soft`, `soft_with_forced` (w = 0 where the local advantage is 0), `only_global` (w = 0), `no_global` (w = 1: GRPO).
    `coefficient`: c = 1 - lambda H with lambda = (1 - 1/G) / log2 G, instead of 1. `right_above`: a completion with a
    higher reward is right. `wrong`: what `soft_with_zero` trains wrong completions with: `global`, their prompt's
    advantage (the paper); `nonpositive`, the same where it is not above 0; `local`, their own.
    """

    kind: Literal["copo"] = "copo"  # type: ignore[assignment]
    k: float = Field(default=5.0, ge=0)
    b: float = 1.0
    variant: Variant = "soft_with_zero"
    wrong: Literal["global", "local", "nonpositive"] = "global"
    right_above: float = 0.0
    coefficient: bool = False
    loss: Kind = "grpo"
    eps: float = Field(default=1e-6, gt=0)
    delta: float | None = Field(default=3.0, gt=1)


class CopoAdvantages(NamedTuple):
    """`local` (P, G), `global_` (P,), `weight` (P, G): w, of the local part; `entropy` (P,), in bits."""

    local: Tensor
    global_: Tensor
    weight: Tensor
    entropy: Tensor


class Copo(Grpo):
    """COPO. See the module for formulas and departures."""

    Config = CopoConfig
    paper = "2508.04138"
    title = "Consistency-aware policy optimization"
    config: CopoConfig

    def __init__(self, config: CopoConfig, **settings: Any) -> None:
        super().__init__(config, **settings)
        self._global = Grpo(config.model_copy(update={"beta": 0.0}))  # the KL term stands in the local part

    def prepare(self, groups: list[Group], tools: Tools) -> list[Group]:
        """The groups, marked as compared with each other, so that a control shuffles rewards over all of them."""
        for group in groups:
            group.meta["cell"] = "batch"
        return groups

    def advantages(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        """(P, G) w A and (1 - w) Â."""
        rewards = rewards_tensor(groups)
        answers = [answers_of(group, rewards.shape[1]) for group in groups]
        c = self.config
        found = copo_advantages(
            rewards,
            answers,
            k=c.k,
            b=c.b,
            variant=c.variant,
            coefficient=c.coefficient,
            right_above=c.right_above,
            eps=c.eps,
        )
        is_wrong = rewards <= c.right_above
        weight, prompts = found.weight, found.global_.unsqueeze(1).expand_as(found.local)
        if c.variant == "soft_with_zero" and c.wrong == "local":
            weight = weight.masked_fill(is_wrong, 1.0)
        if c.variant == "soft_with_zero" and c.wrong == "nonpositive":
            prompts = torch.where(is_wrong, prompts.clamp(max=0.0), prompts)
        local, prompts = weight * found.local, (1 - weight) * prompts.masked_fill(rewards.isnan(), 0.0)
        self.metrics = _metrics(groups, found, local, prompts, is_wrong)
        return {"advantages": local, "global": prompts}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The two clipped losses added up; the statistics are the local part's, which has the ratios."""
        local, statistics = super().loss(batch)
        other, _ = self._global.loss(dataclasses.replace(batch, advantages=batch.more["global"]))
        return local + other, statistics


def copo_advantages(
    rewards: Tensor,
    answers: Sequence[Sequence[Hashable | None]],
    *,
    k: float = 5.0,
    b: float = 1.0,
    variant: Variant = "soft_with_zero",
    coefficient: bool = False,
    right_above: float = 0.0,
    eps: float = 1e-6,
) -> CopoAdvantages:
    """Local and global advantages and their blend. See the module for the formulas.

    rewards (P, G), NaN for none; answers: P lists of G answers that can be compared, None for one that is like no
    other. Raises InputError for shapes that do not fit and for an unknown variant.
    """
    if [len(row) for row in answers] != [rewards.shape[1]] * len(rewards):
        raise InputError(f"answers of {len(answers)} prompts, rewards {tuple(rewards.shape)}", allowed="one a reward")
    known = ~rewards.isnan()
    entropy = rewards.new_tensor(
        [consistency_entropy([a for a, is_in in zip(row, kept, strict=True) if is_in])
         for row, kept in zip(answers, known.tolist(), strict=True)]
    )  # fmt: skip
    local = group_advantages(rewards, eps=eps)
    counts = known.sum(1)
    means = torch.nanmean(rewards, dim=1)
    if coefficient:
        means = means * (1 - penalty(counts) * entropy)
    return CopoAdvantages(
        local, _over_prompts(means, eps), _blend(rewards, local, entropy, k, b, variant, right_above), entropy
    )


def consistency_entropy(answers: Sequence[Hashable | None]) -> float:
    """-sum_a p_a log2 p_a, in bits: 0 where all are equal, log2 n where all differ; a None is like no other."""
    counts = Counter(answer for answer in answers if answer is not None)
    sizes = [*counts.values(), *[1] * (len(answers) - counts.total())]
    return math.fsum(-n / len(answers) * math.log2(n / len(answers)) for n in sizes)


def penalty(counts: Tensor) -> Tensor:
    """(P,) lambda = (1 - 1/n) / log2 n, 0 for fewer than two completions: c is 1/n where all answers differ."""
    n = counts.clamp(min=2).double()
    return torch.where(counts > 1, (1 - 1 / n) / n.log2(), 0.0).to(torch.float32)


def answers_of(group: Group, size: int) -> list[Hashable | None]:
    """The group's answers; the raw text for one that could not be extracted; None beyond the group's end."""
    extracted = group.answers or [None] * len(group.rollouts)
    answers: list[Hashable | None] = [
        ("text", rollout.text) if answer is None else ("answer", answer)
        for answer, rollout in zip(extracted, group.rollouts, strict=True)
    ]
    return answers + [None] * (size - len(answers))


def _blend(
    rewards: Tensor, local: Tensor, entropy: Tensor, k: float, b: float, variant: Variant, right_above: float
) -> Tensor:
    """(P, G) w."""
    if variant == "only_global":
        return torch.zeros_like(local)
    if variant == "no_global":
        return torch.ones_like(local)
    weight = torch.sigmoid(k * (entropy - b)).unsqueeze(1).expand_as(local)
    if variant == "soft_with_zero":
        return weight.masked_fill(rewards <= right_above, 0.0)
    if variant == "soft_with_forced":
        return weight.masked_fill(local == 0, 0.0)
    if variant == "soft":
        return weight.clone()
    raise InputError(f"no variant '{variant}'", allowed=", ".join(VARIANTS))


def _over_prompts(means: Tensor, eps: float) -> Tensor:
    """(P,) z-scores; 0 for a prompt without reward, and where there are fewer than two with one."""
    return torch.nan_to_num((means - torch.nanmean(means)) / (nan_std(means) + eps), nan=0.0)


def _metrics(
    groups: Sequence[Group], found: CopoAdvantages, local: Tensor, prompts: Tensor, is_wrong: Tensor
) -> dict[str, float]:
    """What the blend did. `copo/global_only`: groups that only the global part trains. `copo/reinforced_wrong`: the
    share of the wrong completions whose advantages add up to more than 0."""
    has_local, has_global = (values.any(1) for values in (local, prompts))
    answers = [answer for group in groups for answer in group.answers or [None] * len(group.rollouts)]
    wrong = int(is_wrong.sum())
    return {
        "copo/entropy": float(found.entropy.mean()),
        "copo/weight": float(found.weight.mean()),
        "copo/global_only": float((has_global & ~has_local).float().mean()),
        "copo/unextracted": answers.count(None) / max(1, len(answers)),
        "copo/reinforced_wrong": float(((local + prompts > 0) & is_wrong).sum()) / max(1, wrong),
    }


METHOD = Copo
