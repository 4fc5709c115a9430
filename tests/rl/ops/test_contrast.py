"""The contrast of two models' logits, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from engine.errors import InputError
from rl.ops.contrast import contrasted

POSITIVE = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
NEGATIVE = torch.tensor([[0.6, 0.1, 0.2, 0.1]], dtype=torch.float64).log()


def test_by_hand() -> None:
    """With tau .2 the last token (.05 < .2 * .5) goes; p^2 / q of the others, over their sum."""
    logits = contrasted(POSITIVE, NEGATIVE, strength=1.0, plausibility=0.2)
    weights = [0.25 / 0.6, 0.09 / 0.1, 0.0225 / 0.2, 0.0]
    assert logits.softmax(-1)[0].tolist() == pytest.approx([w / math.fsum(weights) for w in weights])


def test_the_likeliest_token_is_always_plausible_and_one_is_greedy() -> None:
    logits = contrasted(POSITIVE, NEGATIVE, strength=3.0, plausibility=1.0)
    assert logits.softmax(-1)[0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_without_strength_and_cut_it_is_the_positive() -> None:
    assert torch.equal(contrasted(POSITIVE, NEGATIVE, strength=0.0, plausibility=0.0), POSITIVE)
    assert torch.equal(contrasted(POSITIVE, POSITIVE, strength=5.0, plausibility=0.0), POSITIVE)


def test_a_constant_of_either_model_changes_nothing() -> None:
    shifted = contrasted(POSITIVE + 3, NEGATIVE - 5, strength=0.7, plausibility=0.2)
    plain = contrasted(POSITIVE, NEGATIVE, strength=0.7, plausibility=0.2)
    torch.testing.assert_close(shifted.softmax(-1), plain.softmax(-1))


@pytest.mark.parametrize(("strength", "plausibility"), [(-0.1, 0.1), (0.5, 1.1), (0.5, -0.1)])
def test_what_means_nothing_is_refused(strength: float, plausibility: float) -> None:
    with pytest.raises(InputError, match="allowed"):
        contrasted(POSITIVE, NEGATIVE, strength=strength, plausibility=plausibility)
    with pytest.raises(InputError, match="one vocabulary"):
        contrasted(POSITIVE, NEGATIVE[:, :3], strength=0.5, plausibility=0.1)
