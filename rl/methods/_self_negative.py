"""NPO of a language model on its own samples: what a check rejects is unlearnt, what it accepts is retained.

This is our extension of NPO (2404.05868) by Self-NPO's idea (2505.11777), that a model's own output is the negative to
learn from; neither paper has it. It is `mode: self_negative` of method npo, apart from `mode: unlearn`, which forgets
given answers. Rollouts, rewards and policies are those of the online trainer, so a check is any reward: a program, a
judge, a reward model. With S the log-prob of a whole completion and S_ref the start model's,

    L = (1/B) sum over rejected of (2/beta) log(1 + (pi/pi_ref)^beta)
        + retain_weight * (1/tokens) sum over accepted of -log pi

What it means: rejected answers are pushed down until they are rare against the start model, and then let alone. A
rejected completion says nothing about what is right: the retain part does, where the model is right at times.
When it fails: where all is rejected it only disperses, and where the check is wrong it unlearns what was right. Trained
for long as a negative to contrast with (rl.contrast), not as the model itself, it may be left without a retain part and
with the sign of its reward turned round.

A gradient that `trainer.clip_grad_norm` clips is as large for rows that are rare already: see rl/methods/npo.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from rl.lazy import torch
from rl.methods.base import Batch, Method, MethodConfig, rewards_tensor
from rl.types import Group

if TYPE_CHECKING:
    from torch import Tensor


class SelfNegativeConfig(MethodConfig):
    """`threshold`: a completion whose reward is below it is rejected. `retain`: NLL of the accepted ones, or none."""

    kind: Literal["npo"] = "npo"
    mode: Literal["unlearn", "self_negative"] = "self_negative"
    beta: float = Field(default=0.1, gt=0)
    threshold: float = 0.5
    retain: Literal["none", "nll"] = "nll"
    retain_weight: float = Field(default=1.0, gt=0)


class SelfNegative(Method):
    """NPO on rejected samples. See the module."""

    Config: ClassVar[type[MethodConfig]] = SelfNegativeConfig
    paper = "2404.05868"
    title = "Negative preference optimization on own samples that a check rejects"
    config: SelfNegativeConfig

    @property
    def needs_reference(self) -> bool:
        return True

    def advantages(self, groups: Sequence[Group]) -> Tensor:
        """(P, G): -1 for rejected, 1 for accepted, 0 without a reward; accepted ones are 0 without a retain part."""
        rewards = rewards_tensor(groups)
        rejected, known = rewards < self.config.threshold, ~rewards.isnan()
        accepted = known & ~rejected & (self.config.retain == "nll")
        self.metrics = {"rejected": float(rejected.sum() / known.sum().clamp(min=1))}
        return accepted.float() - rejected.float()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of the step's loss, and statistics."""
        if batch.ref_logprobs is None:
            raise ValueError("the trainer gave no reference log-probs")
        sign, beta = batch.advantages[:, 0], self.config.beta
        sums, ref_sums = ((values * batch.mask).sum(1) for values in (batch.logprobs, batch.ref_logprobs))
        rejected, accepted = (sign < 0).to(sums), (sign > 0).to(sums)
        ratios = beta * (sums - ref_sums)
        forget = -(2 / beta) * (torch.nn.functional.logsigmoid(-ratios) * rejected).sum() / batch.total_rows
        retain = -(sums * accepted).sum() / batch.total_tokens
        weight = (2 * torch.sigmoid(ratios) * rejected).sum() / rejected.sum().clamp(min=1)
        loss = forget + self.config.retain_weight * retain
        return loss, {"forget_weight": weight.detach(), "log_ratio": (sums - ref_sums).detach().mean()}
