"""Group relative policy optimization, with the losses that grew from it.

Paper: DeepSeekMath, 2402.03300 (equations 3 and 4). For G completions o_i of a prompt with rewards r_i:

    A_i = (r_i - mean r) / (std r + eps)
    rho_{i,t} = pi(o_{i,t}) / pi_old(o_{i,t})
    L = -mean_i mean_t [ min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) - beta KL(pi || pi_ref) ]

What it means: a completion is reinforced as far as it beat its siblings; there is no value model.
What it assumes: rewards of one prompt are comparable. When it fails: a group whose rewards are all
equal teaches nothing, so watch the share of groups with signal, not the loss - at the first update
rho = 1 and the advantages of a group sum to 0, so a loss of 0 there is right.

Losses (`loss`): `dapo` token mean over the whole step (2503.14476), the default; `grpo` the paper's
mean of rollout means; `bnpo` token mean of the micro-batch; `dr_grpo` divides by the completion limit
(2503.20783; its paper also sets `scale: none`); `cispo` weights log-probs by a capped ratio
(2506.13585); `sapo` a soft gate instead of the clip (2511.20347). `level: sequence` with `loss: grpo`
and clip 3e-4 / 4e-4 is GSPO (2507.18071).

Departures from the paper, all as TRL 1.16 has them and held equal to it by a test unless said otherwise:
1. The default aggregation is dapo's, not the mean of rollout means.
2. beta is 0 (the paper: 0.04). With beta > 0 the KL term is multiplied by rho (`kl_ratio`), which makes
   its gradient that of the reverse KL (2512.02556).
3. std is unbiased and eps is 1e-4; rollouts without reward get advantage 0 and leave the baseline.
4. Several micro-batches are normalized by the whole window's counts (TRL averages micro-batch means for
   grpo, sapo and dr_grpo: the same where micro-batches have equally many rollouts).
5. For cispo `clip_high` null means the cap 5.0 (TRL: the value of epsilon, 0.2).
6. Log-ratios are clamped to +-20 before exp (TRL: not at all); the raw maximum is a statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from rl.methods.base import Batch, Method, MethodConfig, rewards_tensor
from rl.ops.advantages import Scale, group_advantages
from rl.ops.policy import Correction, Kind, Level, Window, policy_loss, sampler_weights
from rl.types import Group

if TYPE_CHECKING:
    from torch import Tensor


class GrpoConfig(MethodConfig):
    """Settings of GRPO; the defaults are TRL's.

    `scale`: which std divides the advantages. `delta`: upper cap of rho, above 1 + clip_high, or null.
    `sampler_correction`: importance weights from the sampler's to the trainer's log-probs, where the
    trainer passes the sampler's; bounds `sampler_low`, `sampler_high`. `none` switches it off.
    """

    kind: Literal["grpo"] = "grpo"
    loss: Kind = "dapo"
    level: Level = "token"
    scale: Scale = "group"
    eps: float = Field(default=1e-4, gt=0)
    clip_low: float = Field(default=0.2, ge=0)
    clip_high: float | None = Field(default=None, ge=0)
    delta: float | None = Field(default=None, gt=1)
    beta: float = Field(default=0.0, ge=0)
    kl_ratio: bool = True
    sapo_positive: float = Field(default=1.0, gt=0)
    sapo_negative: float = Field(default=1.05, gt=0)
    sampler_correction: Correction | Literal["none"] = "sequence_mask"
    sampler_low: float | None = Field(default=None, ge=0)
    sampler_high: float | None = Field(default=3.0, gt=0)


class Grpo(Method):
    """GRPO. See the module for formulas and departures."""

    Config: ClassVar[type[MethodConfig]] = GrpoConfig
    paper = "2402.03300"
    title = "Group relative policy optimization"
    config: GrpoConfig

    @property
    def needs_reference(self) -> bool:
        return self.config.beta > 0

    def advantages(self, groups: Sequence[Group]) -> Tensor | dict[str, Tensor]:
        """(P, G) rewards relative to their group."""
        return group_advantages(rewards_tensor(groups), scale=self.config.scale, eps=self.config.eps)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of the step's loss, and statistics."""
        c = self.config
        weights: Tensor | None = None
        sampler_stats: dict[str, Tensor] = {}
        if batch.sampler_logprobs is not None and c.sampler_correction != "none":
            weights, sampler_stats = sampler_weights(
                batch.old_logprobs,
                batch.sampler_logprobs,
                batch.mask,
                correction=c.sampler_correction,
                low=c.sampler_low,
                high=c.sampler_high,
            )
        loss, stats = policy_loss(
            batch.logprobs,
            batch.old_logprobs,
            batch.advantages,
            batch.mask,
            kind=c.loss,
            clip_low=c.clip_low,
            clip_high=c.clip_high,
            level=c.level,
            delta=c.delta,
            beta=c.beta,
            ref_logprobs=batch.ref_logprobs,
            kl_ratio=c.kl_ratio,
            sapo_positive=c.sapo_positive,
            sapo_negative=c.sapo_negative,
            weights=weights,
            window=Window(batch.total_tokens, batch.total_rows, batch.max_tokens),
        )
        return loss, stats | sampler_stats


METHOD = Grpo
