"""Log-probs of chosen tokens from hidden states, without the whole (T, V) table in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]
MAX_LOGITS = 2**26
"""Logits computed at once: 256 MiB in float32."""


def token_logprobs(
    hidden: Tensor,
    head: Head,
    place: Tensor,
    token: Tensor,
    *,
    temperature: float = 1.0,
    vocabulary: int,
    max_logits: int = MAX_LOGITS,
) -> tuple[Tensor, Tensor]:
    """(M,) log-probs of `token` at `place`, and (N,) entropies in nats, without gradient.

    logp_m = z[place_m, token_m] - logsumexp(z[place_m]), z = head(hidden) / temperature, in float32.

    hidden: (N, H). place: (M,) ascending indices into N. token: (M,). vocabulary: V, the width of
    `head`. At most `max_logits` logits exist at once; if that takes several chunks, the backward pass
    computes each chunk's logits again.
    """
    rows = max(1, max_logits // vocabulary)
    if len(hidden) <= rows:
        return _chunk_logprobs(hidden, head, place, token, temperature)
    bounds = torch.searchsorted(place, torch.arange(0, len(hidden) + rows, rows, device=place.device)).tolist()
    parts = []
    for chunk, (first, last) in enumerate(pairwise(bounds)):
        start = chunk * rows
        local = place[first:last] - start
        part = hidden[start : start + rows], head, local, token[first:last], temperature
        parts.append(checkpoint(_chunk_logprobs, *part, use_reentrant=False))
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk_logprobs(
    hidden: Tensor, head: Head, place: Tensor, token: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float()
    if temperature != 1.0:
        logits = logits / temperature
    normalizer = logits.logsumexp(-1)
    with torch.no_grad():
        entropy = normalizer - (torch.exp(logits - normalizer[:, None]) * logits).sum(-1)
    return logits[place, token] - normalizer.index_select(0, place), entropy
