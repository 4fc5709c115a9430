"""Texts as vectors: the mean hidden state that a causal language model has over a text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from engine.errors import InputError

BATCH_TOKENS = 2048
"""How many tokens, padding included, are forwarded at once."""

KEPT_TEXTS = 4096
"""How many texts' vectors are kept; the one not asked for the longest goes first."""

Vector = list[float]


class HiddenStates:
    """The mean of the last layer's hidden states over a text's tokens, after the model's last norm.

    A first token is put before every text and left out of the mean: whatever stands first collects attention, its
    state is many times longer than the others', and a mean over it would measure the length of the text.
    A text that is longer than the model's context is cut at its end. Vectors are kept by text.
    """

    def __init__(self, model: Any, tokenizer: Any, device: torch.device) -> None:
        self._model, self._tokenizer, self._device = model, tokenizer, device
        self._known: OrderedDict[str, Vector] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """A vector of each text. Raises InputError for an empty text.

        In another batch a vector may differ in its last digits; who needs the same digits asks for one at a time.
        """
        rows = {text: self._ids(text) for text in dict.fromkeys(texts) if text not in self._known}
        for batch in _batches(sorted(rows, key=lambda text: len(rows[text])), rows):
            self._known.update(zip(batch, self._forward([rows[text] for text in batch]), strict=True))
        found = []
        for text in texts:
            self._known.move_to_end(text)
            found.append(list(self._known[text]))
        while len(self._known) > KEPT_TEXTS:
            self._known.popitem(last=False)
        return found

    def _ids(self, text: str) -> list[int]:
        ids = [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False)]
        if not ids:
            raise InputError("a text to embed is empty", allowed="texts of at least one token")
        limit = getattr(self._model.config, "max_position_embeddings", None) or len(ids) + 1
        begin = self._tokenizer.bos_token_id
        return [self._tokenizer.eos_token_id if begin is None else begin, *ids][:limit]

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Sequence[int]]) -> list[Vector]:
        """The vectors of one batch, padded on the right, where a causal model's other tokens do not see it."""
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        states = self._model.base_model(
            ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
        ).last_hidden_state.float()
        mask[:, 0] = 0
        weights = mask.to(states)[:, :, None]
        means: list[Vector] = ((states * weights).sum(1) / weights.sum(1)).cpu().tolist()
        return means


def _batches(texts: Sequence[str], rows: dict[str, list[int]]) -> list[list[str]]:
    """The texts, which come by length, cut so that a padded batch has at most BATCH_TOKENS tokens."""
    batches: list[list[str]] = []
    for text in texts:
        if batches and (len(batches[-1]) + 1) * len(rows[text]) <= BATCH_TOKENS:
            batches[-1].append(text)
        else:
            batches.append([text])
    return batches
