"""Contrast of two models' next-token logits: towards the one and away from the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def contrasted(positive: Tensor, negative: Tensor, *, strength: float, plausibility: float) -> Tensor:
    """(B, V) logits z_pos + s (z_pos - z_neg) of the plausible tokens, -inf for all others.

    A token is plausible where p_pos >= tau max p_pos, as contrastive decoding has it (2210.15097): without that cut the
    contrast would choose what both models find absurd, and the negative a little more. The most likely token always
    is; s = 0 with tau = 0 is the positive itself. positive, negative: (B, V). strength: s, from 0; plausibility: tau,
    from 0 to 1, and 1 is greedy decoding of the positive. Raises InputError for other values.
    """
    if strength < 0:
        raise InputError(f"the strength of the contrast is {strength}", allowed="0 (off) or more")
    if not 0 <= plausibility <= 1:
        raise InputError(f"the plausibility cut is {plausibility}", allowed="0 (off) to 1 (greedy)")
    if positive.shape != negative.shape:
        raise InputError(
            f"logits of shapes {tuple(positive.shape)} and {tuple(negative.shape)}", allowed="models of one vocabulary"
        )
    logits = positive if strength == 0 else positive + strength * (positive - negative)
    if plausibility == 0:
        return logits
    logprobs = positive.float().log_softmax(-1)
    likely = logprobs.exp() >= plausibility * logprobs.amax(-1, keepdim=True).exp()
    return logits.masked_fill(~likely, float("-inf"))
