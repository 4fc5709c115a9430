"""What a model makes of given answers beyond their log-probs: its divergence from another model, its greedy tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl.ops.forward import capability, layout_hidden
from rl.ops.layout import Layout, Pair, row_batches, row_layout


def answer_logits(model: nn.Module, layout: Layout) -> Tensor:
    """(N, V) float32 logits at the places of a layout that predict an answer token."""
    hidden, head = layout_hidden(model, layout, plain_head=capability(model).plain_head)
    logits: Tensor = head(hidden).float()
    return logits


def logprobs_and_kl(logits: Tensor, ref_logits: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(B, T) log-probs of the answers' tokens, and (B, T) KL(reference || model) in nats of the distributions there.

    Both with gradient to `logits` (N, V), of which `ref_logits` are the reference's; 0 where there is no token.
    """
    logprobs, ref = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    kl = (ref.exp() * (ref - logprobs)).sum(-1)
    chosen = logprobs[layout.place, layout.token]
    return _rows(chosen, layout.index), _rows(kl.index_select(0, layout.place), layout.index)


def greedy_matches(model: nn.Module, pairs: Sequence[Pair], *, max_tokens: int = 4096, pad_id: int = 0) -> Tensor:
    """(B, T) bool: whether the model's likeliest token, after the answer so far, is the answer's; False beyond its end.

    pairs: B prompts and answers. max_tokens bounds one forward pass. Raises InputError for an empty prompt.
    """
    device = next(model.parameters()).device
    found = torch.zeros(len(pairs), max((len(answer) for _, answer in pairs), default=0), dtype=torch.bool)
    for batch in row_batches(pairs, max_tokens):
        layout = row_layout([pairs[i] for i in batch], pad_id=pad_id, device=device)
        best = answer_logits(model, layout).argmax(-1)
        matches = _rows((best[layout.place] == layout.token).float(), layout.index) > 0
        found[torch.tensor(batch), : matches.shape[1]] = matches.cpu()
    return found


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """(B, T) of (M,) values: `index` (B, T) with M meaning 0."""
    return torch.cat([values, values.new_zeros(1)]).index_select(0, index.flatten()).view_as(index)
