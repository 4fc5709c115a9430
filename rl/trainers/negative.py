"""What a trained network is worth as a negative: samples with it and with its controls, as a picture and as a table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.pil_utils import make_image_grid
from torch import Tensor, nn

from rl.methods._diffusion import DiffusionConfig
from rl.ops.diffusion import Schedule, blended, ddim_sample, guided
from rl.trainers.denoiser import Denoiser
from rl.trainers.seeds import seeded_generator
from rl.types import Prompt

Row = dict[str, float]
ARMS = ("positive", "cfg", "negative_guided", "negative_alone", "random_negative", "same_negative")
"""Without guidance; guided by the positive without its condition; by the negative; the negative itself; guided by a
random perturbation of the negative's size; by the positive itself, which must change nothing."""
SHOWN = ARMS[:4]
"""Those of the picture."""
_BATCH = 250
_BORDER = 4
"""Pixels around each picture."""


@dataclass
class Trial:
    """Samples of every arm from the same noise. `size`: the most rows of one forward pass."""

    denoiser: Denoiser
    schedule: Schedule
    config: DiffusionConfig
    clip: float | None
    seed: int
    size: int = _BATCH

    def samples(self, positive: nn.Module, negative: nn.Module, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """arm -> (n, ...) clean states, one a prompt."""
        noisy = perturbed(positive, negative, self.seed)
        return {
            "positive": self.drawn(prompts, self._one(positive)),
            "cfg": self.drawn(prompts, self._pair(positive, positive, "none")),
            "negative_guided": self.drawn(prompts, self._pair(positive, negative)),
            "negative_alone": self.drawn(prompts, self._one(negative)),
            "random_negative": self.drawn(prompts, self._pair(positive, noisy)),
            "same_negative": self.drawn(prompts, self._pair(positive, positive, "same")),
        }

    @torch.no_grad()
    def drawn(self, prompts: Sequence[Prompt], predictor: Callable[[Tensor], Any], purpose: str = "trial") -> Tensor:
        """A clean state for each prompt. predictor: from the conditions of some rows to their output at (x, times)."""
        generator = seeded_generator(self.seed, purpose)
        noise = torch.randn(len(prompts), *self.denoiser.shape, generator=generator).to(self.denoiser.device)
        rows = []
        for first in range(0, len(prompts), self.size):
            chosen = slice(first, first + self.size)
            predict = predictor(self.denoiser.conditions(prompts[chosen]))
            rows.append(ddim_sample(predict, noise[chosen], self.schedule, clip=self.clip))
        return torch.cat(rows)

    def _one(self, network: nn.Module) -> Callable[[Tensor], Any]:
        return lambda given: lambda x, times: self.denoiser.output(network, x, times, given)

    def _pair(self, positive: nn.Module, negative: nn.Module, condition: str | None = None) -> Callable[[Tensor], Any]:
        """Guided by the negative, which has the positive's own condition or none."""

        def predictor(given: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
            is_same = (condition or self.config.negative_condition) == "same"
            other = given if is_same else self.denoiser.nothing(len(given))

            def predict(x: Tensor, times: Tensor) -> Tensor:
                outputs = (self.denoiser.output(positive, x, times, given),
                           self.denoiser.output(negative, x, times, other))  # fmt: skip
                return guided(*outputs, self.config.scale)

            return predict

        return predictor


def negative_of(start: Any, positive: Any, trained: dict[str, Tensor], config: DiffusionConfig) -> Any:
    """A network with theta + alpha eta + beta delta. positive: where it is another network than `start`, else None."""
    tuned = None if positive is None else positive.state_dict()
    weights = blended(start.state_dict(), tuned, trained, alpha=config.alpha, beta=config.beta)
    network = copy.deepcopy(start)
    network.load_state_dict(weights)
    return network


def perturbed(positive: nn.Module, negative: nn.Module, seed: int) -> Any:
    """The positive, moved in a random direction by as much as the negative is away from it, tensor by tensor."""
    network, generator = copy.deepcopy(positive), seeded_generator(seed, "random negative")
    others = dict(negative.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            direction = torch.randn(parameter.shape, generator=generator).to(parameter)
            length = (others[name] - parameter).norm()
            parameter.add_(direction * (length / direction.norm().clamp(min=1e-12)))
    return network


def table(
    samples: dict[str, Tensor], images: dict[str, Tensor], prompts: Sequence[Prompt], source: Any
) -> dict[str, Row]:
    """arm -> what the source measures of its pictures, where it does, and their distance from the positive's: the root
    of the mean square in states."""
    rows: dict[str, Row] = dict(source.floor()) if hasattr(source, "floor") else {}
    for arm, x in samples.items():
        found = source.measured(images[arm], prompts) if hasattr(source, "measured") else {}
        distance = float((x - samples["positive"]).square().mean().sqrt())
        rows[arm] = found | {"distance": distance, "n": len(prompts)}
    return rows


def save_picture(images: dict[str, Tensor], columns: int, path: Path) -> None:
    """One PNG: a row an arm, the first `columns` samples of each. Small pictures are enlarged."""
    rows = [images[arm][:columns] for arm in SHOWN]
    pixels = torch.cat(rows).float().cpu()
    scale = max(1, 64 // pixels.shape[-1])
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    pixels = nn.functional.pad(pixels, (_BORDER,) * 4, value=0.5)
    pictures = VaeImageProcessor.numpy_to_pil(pixels.permute(0, 2, 3, 1).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    make_image_grid([picture.convert("RGB") for picture in pictures], rows=len(rows), cols=len(rows[0])).save(path)
