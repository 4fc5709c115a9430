"""scikit-learn's handwritten digits (8x8 pixels, 1,797 of them), for small diffusion models; nothing is downloaded.

It also says what generated digits are worth: `accuracy`, how often a classifier that was trained on the training digits
sees the digit that was asked for, and `frechet`, how far the pictures are from those digits as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rl.lazy import torch
from rl.ops.frechet import frechet_distance
from rl.sources.base import ListSource, SourceConfig
from rl.types import Prompt

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 16
"""A pixel is a whole number from 0 to this."""


class DigitsConfig(SourceConfig):
    """`samples`: how many pictures an evaluation draws of each way to sample, the ten digits in turn."""

    kind: Literal["digits"] = "digits"
    samples: int = Field(default=1000, ge=20)


class Digits(ListSource):
    """The digits: prompts are their names, with the columns `label`, `image` (rows of values from 0 to 1), `answer`."""

    Config = DigitsConfig
    trainers = ("diffusion",)

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The digits as prompts; every fifth is held out."""
        images, labels = digits()
        prompts = [
            Prompt(f"digit:{i}", str(label), {"label": label, "image": image, "answer": str(label)})
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        return [p for i, p in enumerate(prompts) if i % 5], prompts[::5]

    def trial(self) -> list[Prompt]:
        """What an evaluation samples: the ten digits in turn."""
        return [Prompt(f"trial:{i}", str(i % 10), {"label": i % 10}) for i in range(self.config.samples)]

    def measured(self, images: Tensor, prompts: Sequence[Prompt]) -> dict[str, float]:
        """`accuracy` and `frechet` of (n, 1, 8, 8) pictures in [0, 1]. The distance is between Gaussians fitted to the
        64 pixels, from 0 to 16 as the data has them, of the pictures and of all training digits."""
        pixels = images.detach().cpu().double().flatten(1) * LEVELS
        labels = [prompt.columns["label"] for prompt in prompts]
        seen = self.classifier.predict(pixels.numpy()).tolist()
        return {
            "accuracy": sum(a == b for a, b in zip(seen, labels, strict=True)) / len(labels),
            "frechet": frechet_distance(pixels, _pixels(self.train)),
        }

    def floor(self) -> dict[str, dict[str, float]]:
        """What held-out real digits get: the best that samples can be hoped to."""
        pictures = _pixels(self.held_out).reshape(-1, 1, 8, 8) / LEVELS
        return {"real_held_out": self.measured(pictures, self.held_out) | {"n": len(self.held_out)}}

    @functools.cached_property
    def classifier(self) -> Any:
        """A support vector machine (scikit-learn's example of these data), trained on the training digits."""
        from sklearn.svm import SVC

        labels = [prompt.columns["label"] for prompt in self.train]
        return SVC(gamma=0.001).fit(_pixels(self.train).numpy(), labels)


def digits() -> tuple[list[list[list[float]]], list[int]]:
    """All pictures, rows of values in [0, 1], and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / LEVELS).tolist(), data.target.tolist()


def _pixels(prompts: Sequence[Prompt]) -> Tensor:
    """(n, 64) values from 0 to 16."""
    pictures = [prompt.columns["image"] for prompt in prompts]
    return torch.tensor(pictures, dtype=torch.float64).flatten(1) * LEVELS


SOURCE = Digits
