"""The decode loop: one prefill a prompt, then one token a step for all rows that are not finished.

R rows (completions in progress), V vocabulary, L tokens in the cache.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.errors import NonFinite
from rl.policies._cache import new_cache
from rl.policies._sampling import Sampling, sample_tokens
from rl.types import FinishReason, Request

_RUNGS = tuple(sorted(base << power for power in range(20) for base in (1, 3)))
"""Batch sizes 1, 2, 3, 4, 6, 8, 12, 16, 24, 32... Finished rows leave when the next smaller one is reached:
leaving copies the cache, and bfloat16 products on a CPU compile a kernel for each size not yet met."""

_SHARED_TOKENS = 8
"""Prompts that begin with this many equal tokens have their common beginning forwarded once."""


@dataclass
class Row:
    """One completion in progress. `limit`: the most tokens it may have."""

    request: Request
    index: int
    limit: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None

    def __post_init__(self) -> None:
        # A stream of its own, so that a row's draws depend on (seed, index) and on nothing else.
        self.random = random.Random(f"{self.request.seed}/{self.index}")

    def take(self, token: int, logprob: float, end_ids: frozenset[int]) -> None:
        """Append a token; finish at an end token or at the limit."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in end_ids:
            self.finish = "stop"
        elif len(self.ids) >= self.limit:
            self.finish = "length"


@dataclass(frozen=True)
class Decoder:
    """A model to decode with. `end_ids` end a completion; `pad_id` fills, and is never read."""

    model: Any
    tokenizer: Any
    end_ids: frozenset[int]
    pad_id: int
    device: torch.device

    def decode(self, rows: Sequence[Row]) -> None:
        """Complete the rows. Raises NonFinite if the model's logits are not numbers."""
        prompts = list(dict.fromkeys(row.request.prompt_ids for row in rows))
        logits, mask, cache = self._prefill(prompts)
        place = {prompt: i for i, prompt in enumerate(prompts)}
        chosen = torch.tensor([place[row.request.prompt_ids] for row in rows], device=self.device)
        cache.batch_select_indices(chosen)
        logits, mask = logits[chosen], mask[chosen]
        sampling = Sampling.of([row.request for row in rows], logits.shape[-1], self.device)
        batch = list(rows)
        while True:
            tokens = self._draw(batch, logits, sampling)
            going = [i for i, row in enumerate(batch) if row.finish is None]
            if not going:
                return
            if (size := next(rung for rung in _RUNGS if rung >= len(going))) < len(batch):
                finished = [i for i, row in enumerate(batch) if row.finish is not None]
                keep = sorted(going + finished[: size - len(going)])
                kept = torch.tensor(keep, device=self.device)
                cache.batch_select_indices(kept)
                mask, tokens, sampling = mask[kept], tokens[kept], sampling.select(kept)
                batch = [batch[i] for i in keep]
            mask = torch.cat([mask, mask.new_ones(len(batch), 1)], dim=1)
            logits = self._forward(tokens.unsqueeze(1), mask, cache)

    def _draw(self, batch: Sequence[Row], logits: Tensor, sampling: Sampling) -> Tensor:
        """Draw a token (R,) for every row; finished rows that are still in the batch ignore theirs."""
        uniforms = [row.random.random() for row in batch]
        draws = torch.tensor(uniforms, dtype=torch.float64, device=self.device)
        tokens, logprobs = sample_tokens(logits, draws, sampling)
        if not bool(torch.isfinite(logprobs).all()):
            raise NonFinite(
                "the model's logits are not finite numbers: it cannot be sampled from",
                next_step="resume from an earlier checkpoint with a lower learning rate",
            )
        taken = [row for row in batch if row.finish is None]
        for row, token, logprob in zip(batch, tokens.tolist(), logprobs.tolist(), strict=True):
            if row.finish is None:
                row.take(token, logprob, self.end_ids)
        self._stop(taken)
        return tokens

    def _stop(self, rows: Sequence[Row]) -> None:
        """Finish the rows whose last token completed a stop string."""
        watched = [row for row in rows if row.request.stop and row.finish != "stop"]
        if not watched:
            return
        tails = [row.ids[-_tail(row.request.stop) :] for row in watched]
        for row, text in zip(watched, self.tokenizer.batch_decode(tails, skip_special_tokens=True), strict=True):
            if any(stop in text for stop in row.request.stop):
                row.finish = "stop"

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, Any]:
        """Next-token logits (P, V), the mask (P, L) and the cache after the prompts, padded on the left.

        The common beginning of the prompts is forwarded once, in front of the padding.
        """
        cache, is_plain = self._cache()
        shared = _shared_length(prompts) if is_plain and len(prompts) > 1 else 0
        mask = torch.ones(len(prompts), shared, dtype=torch.int64, device=self.device)
        if shared:
            ids = torch.tensor([prompts[0][:shared]], device=self.device)
            self._forward(ids, mask[:1], cache)
            cache.batch_repeat_interleave(len(prompts))
        rest = [prompt[shared:] for prompt in prompts]
        width = max(map(len, rest))
        ids = torch.tensor([[self.pad_id] * (width - len(r)) + list(r) for r in rest], device=self.device)
        own = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rest], device=self.device)
        mask = torch.cat([mask, own], dim=1)
        return self._forward(ids, mask, cache), mask, cache

    def _cache(self) -> tuple[Any, bool]:
        """An empty cache, and whether all of its layers keep every token."""
        return new_cache(self.model.config)

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Logits (R, V) after the last token of ids (R, T); appends them to the cache."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


def _tail(stop: Sequence[str]) -> int:
    """Tokens to decode so that any stop string lies inside: a token may be a single byte of it.

    Four more, because the first character may be cut and a leading space may be dropped.
    """
    return max(len(s.encode()) for s in stop) + 4


def _shared_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens at the beginning that all prompts share, leaving each at least one; 0 if not worth it."""
    first, last = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    length = next((i for i in range(limit) if first[i] != last[i]), limit)
    return length if length >= _SHARED_TOKENS else 0
