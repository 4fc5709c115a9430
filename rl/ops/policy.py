"""Policy losses: the GRPO family, its ratios, its KL term and the correction for another sampler.

Shapes: B rollouts, T completion tokens; a sequence-level quantity is (B, 1). `mask` is 1 at every
completion token up to and including the end token; whatever stands elsewhere never reaches a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from engine.errors import InputError
from rl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"]
KINDS: tuple[Kind, ...] = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo")
Level = Literal["token", "sequence"]
Correction = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
CORRECTIONS: tuple[Correction, ...] = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to +-20 before exp: e^20 is beyond every clip range and far from overflow."""

CISPO_CAP = 5.0
"""The upper cap of the importance weight that ScaleRL (2510.13786) recommends for CISPO."""


class Window(NamedTuple):
    """What one optimizer step sums over: all micro-batches of it, on all processes.

    `tokens`: sum of the masks; `rows`: rollouts, also those left out for want of signal;
    `max_tokens`: the configured completion limit, read by dr_grpo alone.
    """

    tokens: Tensor | float
    rows: int
    max_tokens: int


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    kind: Kind = "dapo",
    clip_low: float = 0.2,
    clip_high: float | None = None,
    level: Level = "token",
    delta: float | None = None,
    beta: float = 0.0,
    ref_logprobs: Tensor | None = None,
    kl_ratio: bool = True,
    sapo_positive: float = 1.0,
    sapo_negative: float = 1.05,
    weights: Tensor | None = None,
    window: Window | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """This micro-batch's share of the step's loss (a scalar), and statistics (scalars without gradient).

    loss = aggregate(term * weights + beta * k3(ref) * (rho if kl_ratio)), with rho of `log_ratios`,
    term of `policy_terms`, aggregation of `aggregate`. Adding the shares of all micro-batches of a
    window gives the step's loss. Formulas as TRL 1.16; where `clip_high` is None it is `clip_low`,
    or for cispo the cap 5.0.

    logprobs (B, T) carry gradient; old_logprobs (B, T); advantages (B,), (B, 1) or (B, T);
    mask (B, T); ref_logprobs (B, T), needed if beta is not 0; weights: of `sampler_weights`, or
    None. window: None means that this batch is the whole window.

    Statistics are means over the batch's tokens (rollouts, where the level is sequence), and for
    `log_ratio_max` the largest |log rho| before the clamp. Raises InputError for settings that do
    not fit together.
    """
    mask = mask.to(logprobs.dtype)
    advantages = advantages.unsqueeze(1) if advantages.dim() == 1 else advantages
    logprobs = logprobs.masked_fill(mask == 0, 0.0)
    raw = log_ratios(logprobs, old_logprobs, mask, level=level)
    ratio = raw.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    high = clip_high if clip_high is not None else (CISPO_CAP if kind == "cispo" else clip_low)
    if kind == "cispo":
        terms = -ratio.clamp(max=high).detach() * advantages * logprobs
    elif kind == "sapo":
        terms = sapo_terms(ratio, advantages, positive=sapo_positive, negative=sapo_negative)
    else:
        terms = clipped_terms(ratio, advantages, low=clip_low, high=high, delta=delta)
    if weights is not None:
        terms = terms * weights
    stats = _ratio_stats(raw.detach(), ratio.detach(), advantages, mask, kind, clip_low, high)
    if beta:
        kl = k3_kl(logprobs, _required(ref_logprobs), mask)
        kl = kl * ratio if kl_ratio else kl
        terms = terms + beta * kl
        stats["kl"] = _masked_mean(kl.detach(), mask)
    return aggregate(terms, mask, kind=kind, window=window), stats


def log_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, *, level: Level = "token") -> Tensor:
    """(B, T) log rho_{i,t} = logp - old_logp, 0 where masked; or the (B, 1) mean over each rollout's tokens.

    The latter is GSPO's length-normalized sequence ratio (2507.18071). Not clamped.
    """
    difference = (logprobs - old_logprobs).masked_fill(mask == 0, 0.0)
    if level == "token":
        return difference
    if level != "sequence":
        raise InputError(f"no ratio level '{level}'", allowed="token, sequence")
    return difference.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1.0)


def clipped_terms(ratio: Tensor, advantages: Tensor, *, low: float, high: float, delta: float | None = None) -> Tensor:
    """-min(rho A, clip(rho, 1 - low, 1 + high) A); `delta` caps rho in the first product.

    The cap bounds the loss of tokens with negative advantage (INTELLECT-2, 2505.07291).
    """
    clipped = ratio.clamp(1 - low, 1 + high)
    free = ratio if delta is None else ratio.clamp(max=delta)
    return -torch.min(free * advantages, clipped * advantages)


def sapo_terms(ratio: Tensor, advantages: Tensor, *, positive: float, negative: float) -> Tensor:
    """-A sigmoid(tau (rho - 1)) 4 / tau, tau = `positive` where A > 0, else `negative` (SAPO, 2511.20347)."""
    tau = torch.where(advantages > 0, positive, negative)
    return -torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """(B, T) e^d - d - 1 with d = ref_logp - logp, clamped to +-20; at least 0, and 0 where masked."""
    difference = (ref_logprobs - logprobs).masked_fill(mask == 0, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return difference.exp() - difference - 1


def aggregate(terms: Tensor, mask: Tensor, *, kind: Kind, window: Window | None = None) -> Tensor:
    """One number of (B, T) or (B, 1) terms; the shares of a window's micro-batches add up to its loss.

    grpo, sapo: mean over rollouts of the mean over tokens. bnpo: sum / tokens of the micro-batch,
    weighted by its share of rollouts. dr_grpo: sum / (rollouts * max_tokens). dapo, cispo: sum /
    tokens of the window. Raises InputError for another kind.
    """
    window = window or Window(mask.sum(), len(mask), mask.shape[1])
    masked = terms * mask
    if kind in ("grpo", "sapo"):
        return (masked.sum(1) / mask.sum(1).clamp(min=1.0)).sum() / window.rows
    if kind == "bnpo":
        return masked.sum() / mask.sum().clamp(min=1.0) * (len(mask) / window.rows)
    if kind == "dr_grpo":
        return masked.sum() / (window.rows * window.max_tokens)
    if kind in ("dapo", "cispo"):
        return masked.sum() / torch.as_tensor(window.tokens).clamp(min=1.0)
    raise InputError(f"no loss '{kind}'", allowed=", ".join(KINDS))


def sampler_weights(
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    mask: Tensor,
    *,
    correction: Correction = "sequence_mask",
    low: float | None = None,
    high: float | None = 3.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Importance weights from the sampler to the trainer, (B, T) or for a sequence (B, 1), and statistics.

    w = exp(old_logp - sampler_logp) of a token, or of the sum over a rollout. `*_truncate`: w clamped
    to [low, high] (truncated importance sampling); `*_mask`: w set to 0 outside. None: no bound. A sampler log-prob
    of NaN (not reported) counts as equal. Statistics are of the ratios before that. No gradient.
    """
    if correction not in CORRECTIONS:
        raise InputError(f"no sampler correction '{correction}'", allowed=", ".join(CORRECTIONS))
    difference = (old_logprobs - sampler_logprobs).detach().masked_fill(mask == 0, 0.0)
    tokens = raw = torch.nan_to_num(difference, nan=0.0)
    if correction.startswith("sequence"):
        raw = tokens.sum(1, keepdim=True)
    weights = raw.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    outside = torch.zeros_like(weights, dtype=torch.bool)
    outside |= (weights < low) if low is not None else outside
    outside |= (weights > high) if high is not None else outside
    stats = {
        "sampler_ratio_mean": _masked_mean(weights, mask),
        "sampler_log_ratio_max": tokens.abs().amax() if tokens.numel() else tokens.sum(),
        "sampler_outside_share": _masked_mean(outside.to(weights.dtype), mask),
    }
    if correction.endswith("mask"):
        return weights.masked_fill(outside, 0.0), stats
    return weights if low is None and high is None else weights.clamp(low, high), stats


def _ratio_stats(
    raw: Tensor, ratio: Tensor, advantages: Tensor, mask: Tensor, kind: Kind, low: float, high: float
) -> dict[str, Tensor]:
    """Mean ratio, largest log-ratio before the clamp, and the shares that the clip takes."""
    stats = {
        "ratio_mean": _masked_mean(ratio, mask),
        "log_ratio_max": raw.abs().amax() if raw.numel() else raw.sum(),
    }
    if kind == "sapo":
        return stats
    if kind == "cispo":
        below, above = torch.zeros_like(ratio, dtype=torch.bool), (ratio > high) & (advantages > 0)
    else:
        below, above = (ratio < 1 - low) & (advantages < 0), (ratio > 1 + high) & (advantages > 0)
    shares = {"clip_low_share": below, "clip_high_share": above, "clip_share": below | above}
    return stats | {name: _masked_mean(share.to(mask.dtype), mask) for name, share in shares.items()}


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the mask's tokens; of (B, 1) values over the rollouts."""
    if values.shape[1] == 1 and mask.shape[1] != 1:
        return values.mean()
    return (values * mask).sum() / mask.sum().clamp(min=1.0)


def _required(ref_logprobs: Tensor | None) -> Tensor:
    if ref_logprobs is None:
        raise InputError("beta is not 0 and there are no reference log-probs", next_step="give ref_logprobs")
    return ref_logprobs
