"""Negative preference optimization: a model unlearns answers and keeps the rest, with its baselines.

Paper: 2404.05868 (section 3). For a question x and its answer y of the forget set, with S = log pi(y|x), the sum
over the answer's tokens, and S_ref the same under the reference, the model before unlearning:

    L_NPO = -(2/beta) E log sigmoid(-beta (S - S_ref)) = (2/beta) E log(1 + (pi / pi_ref)^beta)

What it means: DPO with the rejected answer alone. Its gradient is that of gradient ascent, each row weighted by
W = 2 pi^beta / (pi^beta + pi_ref^beta): 1 at the start, 0 for a row that is forgotten, so that nothing is pushed down
for ever. beta -> 0 is gradient ascent. What it assumes: `model.name` is the model that knows the forget set, and a
small gradient makes a small step: where `trainer.clip_grad_norm` clips, all steps are equal again, so set it high.
When it fails: a low loss is no proof of forgetting (paraphrases may still be known: see the truth ratio and the forget
quality), and without a retain part what is like the forget set is forgotten too.

The loss is a forget part and, weighted by `retain_weight`, a retain part; a `variant` is a pair of them:

    npo        L_NPO
    npo_rt     L_NPO + NLL of the retain set
    npo_kl     L_NPO + KL(pi_ref || pi) on the retain set
    ga         gradient ascent: minus the NLL of the forget set
    grad_diff  gradient ascent + NLL of the retain set (2203.12817)
    simnpo     -(2/beta) E log sigmoid(-(beta/|y|) S - gamma), without a reference (2410.07163)
    dpo_idk    -(2/beta) E log sigmoid(beta ((S' - S'_ref) - (S - S_ref))), S' of a refusal (2305.18290)

and `retain` chooses the retain part by itself, as `variant: simnpo, retain: nll`.

All of this is `mode: unlearn`. `mode: self_negative` learns from the model's own samples: rl/methods/_self_negative.py.

Departures from the paper, of which 1 to 3 are as the authors' program has it:
1. NLL, of the forget set for `ga` too, is a mean over tokens; the equations say sums over an answer's.
2. The KL is KL(pi_ref || pi); the text writes KL(pi || pi_ref). It is a mean over the tokens of the answers alone.
3. dpo_idk is scaled by 2/beta too, so that its initial loss and gradient compare with NPO's.
4. The end token is part of the answer. The reference's log-probs of the forget set are computed once and kept.
5. Each step draws as many retain as forget rows, in an order of their own; an epoch is one of the forget set.
6. SimNPO's paper always adds a retain part; here `retain: nll` does. Its beta is `simnpo_beta`, of another scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.errors import InputError
from rl.lazy import torch
from rl.methods._offline import Answers, OfflineBatch, OfflineConfig, OfflineMethod, Part
from rl.methods._self_negative import SelfNegative
from rl.methods.base import Method, MethodConfig

if TYPE_CHECKING:
    from torch import Tensor

Variant = Literal["npo", "npo_rt", "npo_kl", "ga", "grad_diff", "simnpo", "dpo_idk"]
Retain = Literal["none", "nll", "kl"]
PARTS: dict[Variant, tuple[str, Retain]] = {
    "npo": ("npo", "none"),
    "npo_rt": ("npo", "nll"),
    "npo_kl": ("npo", "kl"),
    "ga": ("ga", "none"),
    "grad_diff": ("ga", "nll"),
    "simnpo": ("simnpo", "none"),
    "dpo_idk": ("dpo", "none"),
}
"""The forget and the retain part of each variant."""


class NpoConfig(OfflineConfig):
    """The defaults are the paper's. `mode: self_negative` is another method: rl/methods/_self_negative.py. `retain`:
    another retain part than the variant's. `simnpo_beta`, `simnpo_gamma`: those of SimNPO, whose program has beta 2.5
    and 4.5 for 5 and 10 % of TOFU."""

    kind: Literal["npo"] = "npo"
    mode: Literal["unlearn", "self_negative"] = "unlearn"
    variant: Variant = "npo_rt"
    beta: float = Field(default=0.1, gt=0)
    retain: Retain | None = None
    retain_weight: float = Field(default=1.0, gt=0)
    simnpo_beta: float = Field(default=2.5, gt=0)
    simnpo_gamma: float = Field(default=0.0, ge=0)


class Npo(OfflineMethod):
    """NPO and its baselines. See the module for formulas and departures."""

    Config: ClassVar[type[MethodConfig]] = NpoConfig
    paper = "2404.05868"
    title = "Negative preference optimization: unlearning"
    modes: ClassVar[Mapping[str, type[Method]]] = {"self_negative": SelfNegative}
    config: NpoConfig

    @property
    def forget(self) -> str:
        """The forget part: npo, ga, simnpo or dpo."""
        return PARTS[self.config.variant][0]

    @property
    def retain(self) -> Retain:
        """The retain part."""
        return self.config.retain or PARTS[self.config.variant][1]

    @property
    def uses(self) -> tuple[Part, ...]:
        return ("forget",) if self.retain == "none" else ("forget", "retain")

    @property
    def needs_ref_logprobs(self) -> bool:
        return self.forget in ("npo", "dpo")

    @property
    def needs_refusals(self) -> bool:
        return self.forget == "dpo"

    @property
    def needs_reference(self) -> bool:
        return self.retain == "kl"

    def loss(self, batch: OfflineBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """This micro-batch's share of the step's loss, and statistics."""
        return self._retain_loss(batch) if batch.part == "retain" else self._forget_loss(batch)

    def _forget_loss(self, batch: OfflineBatch) -> tuple[Tensor, dict[str, Tensor]]:
        answers, share = batch.answers, len(batch.answers.mask) / batch.total_rows
        c, weight = self.config, answers.logprobs.new_ones(())
        if self.forget == "ga":
            loss = -nll(answers) / batch.total_tokens
        elif self.forget == "simnpo":
            loss = share * simnpo_loss(answers.sums, answers.lengths, beta=c.simnpo_beta, gamma=c.simnpo_gamma)
        elif batch.refusals is not None:
            refusals = batch.refusals
            loss = share * dpo_loss(answers.sums, answers.ref_sums, refusals.sums, refusals.ref_sums, beta=c.beta)
        else:
            loss = share * npo_loss(answers.sums, answers.ref_sums, beta=c.beta)
            weight = gradient_weight(answers.sums, answers.ref_sums, beta=c.beta).mean()
        statistics = {"forget_nll": nll(answers) / batch.total_tokens, "forget_weight": share * weight}
        return loss, {"forget_loss": loss.detach(), **{name: value.detach() for name, value in statistics.items()}}

    def _retain_loss(self, batch: OfflineBatch) -> tuple[Tensor, dict[str, Tensor]]:
        answers = batch.answers
        loss = nll(answers) / batch.total_tokens
        statistics = {"retain_nll": loss.detach()}
        if answers.kl is not None:
            loss = (answers.kl * answers.mask).sum() / batch.total_tokens
            statistics["retain_kl"] = loss.detach()
        return self.config.retain_weight * loss, statistics


def npo_loss(logprobs: Tensor, ref_logprobs: Tensor, *, beta: float = 0.1) -> Tensor:
    """-(2/beta) mean log sigmoid(-beta (S - S_ref)), a scalar; (2/beta) ln 2 where S = S_ref.

    logprobs, ref_logprobs: (B,) log-probs of whole answers. Raises InputError for other shapes and beta <= 0.
    """
    _check(beta, logprobs, ref_logprobs)
    return -(2 / beta) * torch.nn.functional.logsigmoid(-beta * (logprobs - ref_logprobs)).mean()


def gradient_weight(logprobs: Tensor, ref_logprobs: Tensor, *, beta: float = 0.1) -> Tensor:
    """(B,) W = 2 pi^beta / (pi^beta + pi_ref^beta), by which npo_loss weighs the gradient of each (B,) log-prob."""
    _check(beta, logprobs, ref_logprobs)
    return 2 * torch.sigmoid(beta * (logprobs - ref_logprobs))


def simnpo_loss(logprobs: Tensor, lengths: Tensor, *, beta: float = 2.5, gamma: float = 0.0) -> Tensor:
    """-(2/beta) mean log sigmoid(-(beta/|y|) S - gamma), a scalar; |y|: (B,) tokens of each answer.

    Raises InputError as npo_loss does.
    """
    _check(beta, logprobs, lengths)
    return -(2 / beta) * torch.nn.functional.logsigmoid(-beta * logprobs / lengths - gamma).mean()


def dpo_loss(
    logprobs: Tensor, ref_logprobs: Tensor, refusal_logprobs: Tensor, ref_refusal_logprobs: Tensor, *, beta: float = 0.1
) -> Tensor:
    """-(2/beta) mean log sigmoid(beta ((S' - S'_ref) - (S - S_ref))), a scalar; S' of the refusals, all (B,).

    Raises InputError as npo_loss does.
    """
    _check(beta, logprobs, ref_logprobs, refusal_logprobs, ref_refusal_logprobs)
    margin = (refusal_logprobs - ref_refusal_logprobs) - (logprobs - ref_logprobs)
    return -(2 / beta) * torch.nn.functional.logsigmoid(beta * margin).mean()


def nll(answers: Answers) -> Tensor:
    """The negative log-likelihood in nats of all answers, summed."""
    return -answers.sums.sum()


def _check(beta: float, *tensors: Tensor) -> None:
    if not beta > 0:
        raise InputError(f"beta is {beta}", allowed="a number above 0; beta -> 0 is gradient ascent (variant ga)")
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(shape != shapes[0] or len(shape) != 1 or not shape[0] for shape in shapes):
        raise InputError(f"log-probs of shapes {shapes}", allowed="one number a row: (B,), B at least 1")


METHOD = Npo
