"""Advantages from rewards, relative to the group of completions of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from engine.errors import InputError
from rl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Scale = Literal["group", "batch", "none"]
SCALES: tuple[Scale, ...] = ("group", "batch", "none")


def group_advantages(rewards: Tensor, *, scale: Scale = "group", eps: float = 1e-4) -> Tensor:
    """(P, G) advantages of (P, G) rewards; rewards of NaN get 0 and are left out of mean and std.

    A_pi = (r_pi - mean_p) / (std + eps), with std unbiased over the group (`group`, GRPO
    2402.03300), over the whole batch (`batch`), or without the division (`none`, Dr. GRPO
    2503.20783). A std of fewer than two rewards does not exist, and the advantage is 0. It is exactly 0 too where
    all rewards of a group are equal: the rounding of their mean, divided by a std that is rounding too, would be
    up to 0.3 with eps 1e-6.
    Raises InputError for a rewards tensor that is not (P, G) or an unknown scale.
    """
    _check(rewards, 2, "(P, G)")
    centred = rewards - torch.nanmean(rewards, dim=1, keepdim=True)
    centred = centred.masked_fill(~has_signal(rewards).unsqueeze(1), 0.0)
    if scale == "group":
        centred = centred / (nan_std(rewards, dim=1) + eps)
    elif scale == "batch":
        centred = centred / (nan_std(rewards) + eps)
    elif scale != "none":
        raise InputError(f"no reward scale '{scale}'", allowed=", ".join(SCALES))
    return torch.nan_to_num(centred, nan=0.0)


def normalize_then_sum(rewards: Tensor, weights: Sequence[float] | Tensor, *, eps: float = 1e-4) -> Tensor:
    """(P, G) advantages of (P, G, K) rewards of K functions, each normalized before they are summed (GDPO 2601.05242).

    z_pik = (r_pik - mean_pk) / (std_pk + eps);  s_pi = sum_k w_k z_pik;  A = (s - mean s) / (std s + eps),
    mean and std of s over the batch. So a function with large numbers does not drown the others. NaN
    in one function counts 0 for it; a row of only NaN gets advantage 0 and is left out of every mean.
    A function whose rewards are equal in a group counts exactly 0 there, and a group in which all are gets exactly 0.
    Raises InputError for wrong shapes.
    """
    _check(rewards, 3, "(P, G, K)")
    weight = torch.as_tensor(weights, dtype=rewards.dtype, device=rewards.device)
    if weight.shape != rewards.shape[2:]:
        raise InputError(f"{weight.numel()} weights for {rewards.shape[2]} reward functions")
    mean = torch.nanmean(rewards, dim=1, keepdim=True)
    std = nan_std(rewards, dim=1) if rewards.shape[1] > 1 else torch.zeros_like(mean)
    signal = has_signal(rewards.transpose(1, 2).flatten(0, 1)).view(len(rewards), 1, -1)
    scores = ((rewards - mean) / (std + eps)).masked_fill(~signal, 0.0)
    total = (weight * scores).nansum(dim=2).masked_fill(rewards.isnan().all(dim=2), torch.nan)
    found = torch.nan_to_num((total - torch.nanmean(total)) / (nan_std(total) + eps), nan=0.0)
    return found.masked_fill(~signal.any(dim=2), 0.0)


def nan_std(values: Tensor, dim: int | None = None) -> Tensor:
    """Unbiased standard deviation without the NaNs, `dim` kept; NaN where fewer than two are left."""
    count = (~values.isnan()).sum(dim=dim, keepdim=dim is not None)
    mean = torch.nanmean(values, dim=dim, keepdim=dim is not None)
    squares = (values - mean).square().nansum(dim=dim, keepdim=dim is not None)
    return torch.where(count > 1, (squares / (count - 1)).sqrt(), torch.nan)


def has_signal(rewards: Tensor) -> Tensor:
    """(P,) bool: whether the group's rewards, NaN left out, differ; without that nothing is learned from it."""
    _check(rewards, 2, "(P, G)")
    high = torch.nan_to_num(rewards, nan=-torch.inf).amax(dim=1)
    low = torch.nan_to_num(rewards, nan=torch.inf).amin(dim=1)
    return high > low


def _check(rewards: Tensor, dims: int, shape: str) -> None:
    if rewards.dim() != dims or not rewards.numel():
        raise InputError(f"rewards have shape {tuple(rewards.shape)}", allowed=shape)
