"""What every method on the diffusion trainer is: a loss on states of a diffusion process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from rl.methods.base import Method, MethodConfig
from rl.ops.diffusion import Schedule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Predict = Callable[["Tensor", "Tensor"], "Tensor"]
"""A network's output at (B, ...) states and their (B,) times."""


@dataclass
class DiffusionBatch:
    """B rows of one process. `clean`: (B, ...) x_0, a picture or its latent. `schedule`: the noise at each time.

    `model`: the network that is trained, with gradient, under each row's condition; `average`: the running average of
    its weights, without gradient, likewise; `unconditional`: the same average without any condition. `generator`: of
    all draws, on the CPU. `total_rows`: of the step, on all processes.
    """

    clean: Tensor
    schedule: Schedule
    model: Predict
    average: Predict
    unconditional: Predict
    generator: torch.Generator
    total_rows: int


class DiffusionConfig(MethodConfig):
    """How states are made, and how the trained network is tried out as a negative.

    `grid`: the steps of the sampler, and the times that training starts from. `start: self` trains on `latents`
    states that the start model sampled before the first step, without guidance and without any data; `data` on the
    source's pictures. `average`: of the running average of the weights, a step.

    `scale`: s of eps_neg + s (eps_pos - eps_neg). `negative_condition`: the condition of the negative, the positive's
    own or none. `positive`: a model that was tuned to preferences, which then is the positive; the negative is theta +
    `alpha` eta + `beta` delta, with eta its offset from `model.name` and delta what training added.
    """

    grid: int = Field(default=25, ge=2)
    start: Literal["self", "data"] = "self"
    latents: int = Field(default=512, ge=1)
    average: float = Field(default=0.999, ge=0, lt=1)
    scale: float = Field(default=1.5, ge=0)
    negative_condition: Literal["same", "none"] = "same"
    positive: str | None = None
    alpha: float = Field(default=1.0, ge=0, le=1)
    beta: float = 1.0


class DiffusionMethod(Method):
    """One method on the diffusion trainer."""

    trainer = "diffusion"
    Config: ClassVar[type[MethodConfig]] = DiffusionConfig
    config: DiffusionConfig

    @classmethod
    def needs_rewards(cls, config: Any) -> bool:
        """No completions, no rewards."""
        return False

    def loss(self, batch: DiffusionBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """These rows' share of the step's loss, and statistics, each a share of the step's mean."""
        raise NotImplementedError
