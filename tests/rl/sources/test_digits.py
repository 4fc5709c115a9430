"""The digits, and what their source measures."""

from __future__ import annotations

import pytest
import torch

from rl.sources.digits import Digits, DigitsConfig


@pytest.fixture(scope="module")
def source() -> Digits:
    return Digits(DigitsConfig(samples=200))


def test_every_fifth_digit_is_held_out(source: Digits) -> None:
    assert (len(source.train), len(source.held_out)) == (1437, 360)
    assert [prompt.id for prompt in source.held_out[:3]] == ["digit:0", "digit:5", "digit:10"]
    image = torch.tensor(source.train[0].columns["image"])
    assert image.shape == (8, 8) and image.min() >= 0 and image.max() <= 1


def test_real_digits_are_seen_and_near_and_noise_is_not(source: Digits) -> None:
    real = source.floor()["real_held_out"]
    assert real["accuracy"] > 0.97 and real["n"] == 360
    same = torch.tensor([prompt.columns["image"] for prompt in source.train])[:, None]
    assert source.measured(same, source.train)["frechet"] == pytest.approx(0.0, abs=1e-6)
    prompts = source.trial()
    assert [prompt.columns["label"] for prompt in prompts[:12]] == [*range(10), 0, 1]
    noise = source.measured(torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)), prompts)
    assert noise["accuracy"] < 0.3 and noise["frechet"] > 10 * real["frechet"]


def test_blurred_digits_are_further_away_than_real_ones(source: Digits) -> None:
    pictures = torch.tensor([prompt.columns["image"] for prompt in source.held_out])[:, None]
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, stride=1, padding=1)
    assert source.measured(blurred, source.held_out)["frechet"] > 3 * source.floor()["real_held_out"]["frechet"]
