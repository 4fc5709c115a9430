"""Vectors before every prompt: rows of the embedding beyond the vocabulary, under token ids that no text has.

So whatever takes token ids takes a soft prompt, and head and tied weights stay as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import CheckpointError, InputError

FILE = "soft_prompt.safetensors"
_ROWS = "rows"


class SoftEmbedding(nn.Module):
    """An embedding table and, under the ids that follow its own, the rows of a soft prompt."""

    def __init__(self, table: Any, rows: Tensor) -> None:
        super().__init__()
        self.table, self.size = table, int(table.num_embeddings)
        self.rows = nn.Parameter(rows)

    @property
    def weight(self) -> Tensor:
        """The table's."""
        weight: Tensor = self.table.weight
        return weight

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids of the rows."""
        return tuple(range(self.size, self.size + len(self.rows)))

    def forward(self, ids: Tensor) -> Tensor:
        """(..., H) of (...) ids."""
        is_soft = ids >= self.size
        own: Tensor = self.table(ids.masked_fill(is_soft, 0))
        soft = self.rows[(ids - self.size).clamp(min=0)]
        return torch.where(is_soft[..., None], soft.to(own.dtype), own)


def add_soft_prompt(model: Any, tokenizer: Any, text: str, checkpoint: Path | None = None) -> None:
    """Give the model a soft prompt that begins as the text's tokens, or is that of the checkpoint; only it is trained.

    Raises InputError for a text without tokens, and CheckpointError for a checkpoint without a soft prompt of that
    size.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError(f"the text of a soft prompt, {text!r}, has no tokens", allowed="one word or more")
    table = model.get_input_embeddings()
    with torch.no_grad():
        rows = table(torch.tensor(ids, device=table.weight.device)).detach().clone()
    if checkpoint is not None:
        rows = _saved_rows(checkpoint, rows)
    model.requires_grad_(False)
    model.set_input_embeddings(SoftEmbedding(table, rows))


def prefix_of(model: Any) -> tuple[int, ...]:
    """The ids to put before every prompt; none where the model has no soft prompt."""
    embedding = _embedding_of(model)
    return () if embedding is None else embedding.ids


@contextlib.contextmanager
def bare(model: Any) -> Iterator[None]:
    """Within it, the model is as it was without its soft prompt, if it has one."""
    embedding = _embedding_of(model)
    if embedding is None:
        yield
        return
    model.set_input_embeddings(embedding.table)
    try:
        yield
    finally:
        model.set_input_embeddings(embedding)


def save_soft_prompt(model: Any, path: Path) -> None:
    """Write the rows into the folder, if the model has a soft prompt."""
    embedding = _embedding_of(model)
    if embedding is not None:
        save_file({_ROWS: embedding.rows.detach().contiguous()}, path / FILE)


def _embedding_of(model: Any) -> SoftEmbedding | None:
    found = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    return found if isinstance(found, SoftEmbedding) else None


def _saved_rows(checkpoint: Path, like: Tensor) -> Tensor:
    """The rows in a checkpoint."""
    if not (checkpoint / FILE).is_file():
        raise CheckpointError(f"there is no {FILE}", place=str(checkpoint), next_step="use a checkpoint of this config")
    rows = load_file(checkpoint / FILE)[_ROWS]
    if rows.shape != like.shape:
        raise CheckpointError(
            f"the soft prompt is of shape {tuple(rows.shape)}, and the config's text has {tuple(like.shape)}",
            place=str(checkpoint / FILE),
            next_step="leave method.space.text as it was",
        )
    return rows.to(like.device, like.dtype)
