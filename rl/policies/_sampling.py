"""Drawing tokens: temperature, top-k, top-p and min-p, then the inverse of the distribution function.

B rows, V vocabulary. One uniform number a row fixes the draw, so that a row's randomness is its
own: it depends on no other row and on no global generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rl.types import Request

_FIRST_WIDTH = 1024
"""Candidates ranked at first for top-p: a full sort of the vocabulary costs more than a forward pass."""


@dataclass(frozen=True)
class Sampling:
    """Sampling settings a row; all (B, 1). top_k is V where it is off."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    is_greedy: bool
    is_truncated: bool

    @classmethod
    def of(cls, requests: Sequence[Request], vocabulary: int, device: torch.device) -> Sampling:
        """The settings of these rows."""

        def column(values: list[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device).unsqueeze(1)

        return cls(
            temperature=column([r.temperature for r in requests], torch.float32),
            top_k=column([min(r.top_k or vocabulary, vocabulary) for r in requests], torch.int64),
            top_p=column([r.top_p for r in requests], torch.float32),
            min_p=column([r.min_p for r in requests], torch.float32),
            is_greedy=any(r.temperature == 0 for r in requests),
            is_truncated=any(r.temperature > 0 and (r.top_k or r.top_p < 1 or r.min_p) for r in requests),
        )

    def select(self, rows: Tensor) -> Sampling:
        """The settings of some of the rows."""
        columns = {name: getattr(self, name)[rows] for name in ("temperature", "top_k", "top_p", "min_p")}
        return replace(self, **columns)


def sample_tokens(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens (B,) and their log-probs (B,) under the distribution that they were drawn from.

    logits (B, V); uniforms (B,) in [0, 1), float64. The order is that of transformers: temperature,
    top-k, top-p, min-p. A greedy row (temperature 0) takes the largest logit; its log-prob is that
    of the model's own distribution at temperature 1, as its sampling distribution has but one token.
    """
    greedy = sampling.temperature == 0
    logprobs = (logits.float() / sampling.temperature.masked_fill(greedy, 1.0)).log_softmax(-1)
    if sampling.is_truncated:
        logprobs = torch.where(greedy, logprobs, truncate(logprobs, sampling))
    if sampling.is_greedy:
        tokens = torch.where(greedy.squeeze(1), logits.argmax(-1), _invert(logprobs, uniforms))
    else:
        tokens = _invert(logprobs, uniforms)
    return tokens, logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)


def truncate(logprobs: Tensor, sampling: Sampling) -> Tensor:
    """Log-probs (B, V) after top-k, top-p and min-p: -inf outside the support, normalized within it.

    top-p keeps the smallest set of most likely tokens whose mass reaches top_p; min-p keeps tokens
    at least min_p times as likely as the most likely one.
    """
    is_ranked = (sampling.top_k < logprobs.shape[1]) | (sampling.top_p < 1)
    keep = logprobs >= logprobs.amax(-1, keepdim=True) + sampling.min_p.log()
    if is_ranked.any():
        keep &= _nucleus(logprobs, sampling, is_ranked) | ~is_ranked
    return logprobs.masked_fill(~keep, float("-inf")).log_softmax(-1)


def _nucleus(logprobs: Tensor, sampling: Sampling, is_ranked: Tensor) -> Tensor:
    """(B, V) mask of the tokens that top-k and top-p keep; meaningless in rows that are not ranked."""
    vocabulary = logprobs.shape[1]
    width = min(_FIRST_WIDTH, vocabulary)
    while True:
        ranked, index = logprobs.topk(width)
        within_k = torch.arange(width, device=logprobs.device) < sampling.top_k
        probs = ranked.exp() * within_k
        mass = probs.cumsum(-1)
        # With top-k on, top-p is a share of the mass that top-k left, all of which is in sight.
        has_all = (sampling.top_k <= width) | (width == vocabulary)
        total = torch.where(has_all, mass[:, -1:], 1.0)
        is_enough = has_all | (mass[:, -1:] >= sampling.top_p) & (sampling.top_k == vocabulary)
        if bool((is_enough | ~is_ranked).all()):
            break
        width = min(8 * width, vocabulary)
    keep = within_k & ((mass - probs < sampling.top_p * total) | (sampling.top_p >= 1))
    return torch.zeros_like(logprobs, dtype=torch.bool).scatter(1, index, keep)


def _invert(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    """The first token (B,) at which the distribution function exceeds the uniform number."""
    mass = logprobs.exp().cumsum(-1)
    total = mass[:, -1:]
    # Rounding must not lift the target to the total: no token would exceed it.
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum((uniforms.unsqueeze(1) * total.double()).float(), below_total)
    tokens = torch.searchsorted(mass, target, right=True).squeeze(1)
    return tokens.clamp(max=logprobs.shape[1] - 1)
