"""Self-NPO: a diffusion model learns its own weaknesses, and is then guided away from them.

Paper: 2505.11777, "Self-NPO: data-free diffusion model enhancement via truncated diffusion fine-tuning". The trained
network is no better model; it is the negative of guidance, eps = eps_neg + s (eps_pos - eps_neg). From a state x_t at a
time t of the sampler's grid K steps without guidance lead to x_t', where the estimate of the clean state is the target:

    w-guided output of the average weights:  o = o_c + w (o_c - o_null), w = -1: guidance removed
    x_t  --K deterministic steps-->  x_t',    target x0' = E[x_0 | x_t'] by o
    s ~ U(t', T],   x_s = (a_s/a_t') x_t' + sqrt(s_s^2 - s_t'^2 a_s^2/a_t'^2) eps
    L = E min(a_s^2/s_s^2, 5) (sqrt(|x0(x_s, s, c) - x0'|^2 + c^2) - c),   c = 1e-3

What it means: an estimate after few steps is a mean over many pictures, blurred and without detail; a network that
learns to say that at more noisy times makes the model's own mistakes more strongly, and needs no label of what is bad.
What it assumes: the positive is not perfect; a model that samples its data well has nothing to be guided away from.
When it fails: trained for long, the negative is far from the positive and the difference of both is no direction any
more; a large `scale` then wrecks pictures. Ordinary guidance is the comparison to make: it often is as good.
On digits the gain comes from w = -1: the negative forgets its condition, as ordinary guidance's has none; with w = 0 it
is no better to be guided away from than a random perturbation (benchmarks/self_npo.py).

Departures from the paper, whose program starts from noised data:
1. The start states are noised latents that the start model sampled before training (`start: self`), as the paper's
   data-free setting has it, but a fixed set of them; `start: data` is the authors' program.
2. Each row's loss has the weight min(snr, 5). Without it a loss on x_0 is ruled by times near T, at which x_0 is output
   over a_t; their program has none, and a network in which that matters less. `min_snr: null` takes it away.
3. A row that comes to the grid's first time stays there; theirs goes on to time 0.
4. Training moves all weights or low-rank adapters; they train all of SD1.5's, and publish adapters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from rl.lazy import torch
from rl.methods._diffusion import DiffusionBatch, DiffusionConfig, DiffusionMethod
from rl.methods.base import MethodConfig
from rl.ops.diffusion import ddim_step, min_snr, noise_of, per_row, pseudo_huber, renoised, tweedie

if TYPE_CHECKING:
    from torch import Tensor


class SelfNpoConfig(DiffusionConfig):
    """`truncated`: K, the steps to a target. `guidance`: w on the way, -1 for the model without any condition and 0 for
    the conditioned one. `huber_c`: where the loss goes over from a square to a modulus."""

    kind: Literal["self_npo"] = "self_npo"
    truncated: int = Field(default=5, ge=0)
    guidance: float = -1.0
    huber_c: float = Field(default=1e-3, gt=0)
    min_snr: float | None = Field(default=5.0, gt=0)


class SelfNpo(DiffusionMethod):
    """Self-NPO. See the module for formulas and departures."""

    Config: ClassVar[type[MethodConfig]] = SelfNpoConfig
    paper = "2505.11777"
    title = "Self-NPO: a negative to guide a diffusion model with"
    config: SelfNpoConfig

    def loss(self, batch: DiffusionBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """The weighted pseudo-Huber distance of the estimate at x_s to that at x_t', this process' share of it."""
        schedule = batch.schedule
        places = torch.randint(len(schedule.grid), (len(batch.clean),), generator=batch.generator)
        with torch.no_grad():
            x = ddim_step(batch.clean, self._noise(batch), *schedule.at(schedule.grid[places], batch.clean))
            x, times, target = self.truncated(batch, x, places)
        later = later_times(times, len(schedule.alphas), batch.generator)
        alpha, sigma = schedule.at(later, x)
        x = renoised(x, *schedule.at(times, x), alpha, sigma, self._noise(batch))
        found = tweedie(batch.model(x, later.to(x.device)), x, alpha, sigma, schedule.prediction)
        distance = pseudo_huber(found - target, self.config.huber_c).flatten(1).mean(1)
        weight = 1.0 if self.config.min_snr is None else min_snr(alpha, sigma, self.config.min_snr).flatten()
        share = len(distance) / batch.total_rows
        distances = share * distance.detach().mean()
        return share * (weight * distance).mean(), {"distance": distances, "time": share * later.float().mean()}

    def truncated(self, batch: DiffusionBatch, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_t' after the truncated steps down the grid from its (B,) `places`, its (B,) times, and x0' at it."""
        schedule = batch.schedule
        for step in range(self.config.truncated + 1):
            times = schedule.grid[places]
            alpha, sigma = schedule.at(times, x)
            output = self._output(batch, x, times.to(x.device))
            clean = tweedie(output, x, alpha, sigma, schedule.prediction)
            if step < self.config.truncated:
                noise = noise_of(output, x, alpha, sigma, schedule.prediction)
                moving, places = places > 0, (places - 1).clamp(min=0)
                moved = ddim_step(clean, noise, *schedule.at(schedule.grid[places], x))
                x = torch.where(per_row(moving.to(x.device), x), moved, x)
        return x, times, clean

    def _output(self, batch: DiffusionBatch, x: Tensor, times: Tensor) -> Tensor:
        """The average weights' output with guidance w; each network is asked only if it counts."""
        w = self.config.guidance
        if w == -1:
            return batch.unconditional(x, times)
        conditioned = batch.average(x, times)
        return conditioned if w == 0 else conditioned + w * (conditioned - batch.unconditional(x, times))

    @staticmethod
    def _noise(batch: DiffusionBatch) -> Tensor:
        noise = torch.randn(batch.clean.shape, generator=batch.generator)
        return noise.to(batch.clean)


def later_times(times: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For each of the (B,) times one of those after it, up to the last, count - 1; the last one for itself."""
    rest = (count - 1 - times).clamp(min=1)
    draws = 1 + (torch.rand(times.shape, generator=generator, dtype=torch.float64) * rest).long()
    return (times + draws).clamp(max=count - 1)


METHOD = SelfNpo
