"""Given answers as tokens, and the model's log-probs of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import DataError
from rl.methods._offline import Answers
from rl.ops.answers import answer_logits, greedy_matches, logprobs_and_kl
from rl.ops.forward import device_of
from rl.ops.layout import Pair, row_layout
from rl.ops.tokens import completion_mask, groups_logprobs
from rl.policies import encode_prompt
from rl.trainers.gradient import as_reference
from rl.types import Prompt


@dataclass
class Encoder:
    """Prompts and answers as token ids. context: the most that both may have. ending: the text that an answer ends
    with; None: the end token. prefix: ids before every prompt."""

    tokenizer: Any
    source: Any
    context: int | None = None
    ending: str | None = None
    prefix: tuple[int, ...] = ()

    def pair(self, row: Prompt, answer: str) -> Pair:
        """The row's prompt and an answer to it. Raises DataError where both are longer than the context."""
        prompt = encode_prompt(self.tokenizer, row.prompt, self.prefix)
        text = self.source.completion(answer) + (self.ending or "")
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        pair = (prompt, (*ids, *([] if self.ending else [self.tokenizer.eos_token_id])))
        length = len(pair[0]) + len(pair[1])
        if self.context is not None and length > self.context:
            raise DataError(
                f"question and answer have {length} tokens, and the model takes {self.context}",
                place=row.columns.get("place", f"the prompt {row.id}"),
                next_step="shorten them, or train a model with a longer context",
            )
        return pair

    def answers(self, rows: Sequence[Prompt]) -> list[Pair]:
        """The rows with their own answers."""
        return [self.pair(row, row.columns["answer"]) for row in rows]


@dataclass
class Forward:
    """Log-probs of answers under one model. `autocast`: the dtype of the forward passes, None for the weights' own.
    `max_tokens` bounds one pass."""

    model: Any
    autocast: torch.dtype | None
    max_tokens: int

    def logprobs(self, pairs: Sequence[Pair]) -> Tensor:
        """(B, T) log-probs of the answers' tokens, with gradient; 0 beyond an answer's end."""
        with self.precision():
            return groups_logprobs(
                self.model, [prompt for prompt, _ in pairs], [[a] for _, a in pairs], max_tokens=self.max_tokens
            )

    def answers(self, pairs: Sequence[Pair], ref_logprobs: Tensor | None = None) -> Answers:
        """The answers with gradient."""
        logprobs = self.logprobs(pairs)
        return Answers(logprobs, self._mask(pairs, logprobs), _cut(ref_logprobs, logprobs))

    def answers_with_kl(self, pairs: Sequence[Pair], reference: nn.Module | None) -> Answers:
        """The answers with gradient, and the KL to the reference; None: to the model without its adapter."""
        layout = row_layout(pairs, device=device_of(self.model))
        with self.precision():
            with torch.no_grad(), as_reference(self.model, reference) as frozen:
                ref_logits = answer_logits(frozen, layout)
            logprobs, kl = logprobs_and_kl(answer_logits(self.model, layout), ref_logits, layout)
        return Answers(logprobs, self._mask(pairs, logprobs), kl=kl)

    def means(self, pairs: Sequence[Pair]) -> list[float]:
        """Each answer's mean log-prob a token, without gradient."""
        with torch.no_grad():
            sums = self.logprobs(pairs).sum(1).tolist()
        return [total / len(answer) for total, (_, answer) in zip(sums, pairs, strict=True)]

    def matches(self, pairs: Sequence[Pair]) -> list[list[bool]]:
        """For each answer whether each of its tokens is the likeliest one, without gradient."""
        with torch.no_grad(), self.precision():
            found = greedy_matches(self.model, pairs, max_tokens=self.max_tokens).tolist()
        return [row[: len(answer)] for row, (_, answer) in zip(found, pairs, strict=True)]

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast, where it is asked for."""
        kind = device_of(self.model).type
        return torch.autocast(kind, dtype=self.autocast, enabled=self.autocast is not None)

    @staticmethod
    def _mask(pairs: Sequence[Pair], like: Tensor) -> Tensor:
        return completion_mask([[answer] for _, answer in pairs], like.device)


def _cut(values: Tensor | None, like: Tensor) -> Tensor | None:
    """(B, T) of rows that were padded for longer answers."""
    return None if values is None else values[:, : like.shape[1]].to(like.device)
