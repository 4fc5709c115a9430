"""Diffusion: what a noisy state says about the clean one, a deterministic step, new noise, guidance and blending.

A state at time t is x_t = a_t x_0 + s_t eps with a_t^2 + s_t^2 = 1, and a network's output is eps (`epsilon`), x_0
(`sample`) or v = a_t eps - s_t x_0 (`v_prediction`, 2202.00512). Tensors x are (B, ...); times are (B,) integers, and
a and s of them are (B,) too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from engine.errors import InputError
from rl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True)
class Schedule:
    """`alphas`, `sigmas`: (N,) a_t and s_t of the training times. `grid`: the (n,) times of a sampler, ascending.
    `final_alpha`: a at the end of the last step; 1 where that is the clean state. `prediction`: what networks say."""

    alphas: Tensor
    sigmas: Tensor
    grid: Tensor
    final_alpha: float
    prediction: Prediction

    def at(self, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a and s of (B,) times, of a shape that multiplies `like`."""
        device, dtype = self.alphas.device, like.dtype
        a, s = (values[times.to(device)].to(like.device, dtype) for values in (self.alphas, self.sigmas))
        return per_row(a, like), per_row(s, like)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values as (B, 1, ...), so that they multiply a (B, ...) tensor by rows."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def tweedie(output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """The estimate of x_0 that a network's output at the state x means: E[x_0 | x_t] for a perfect network.

    Raises InputError for a prediction type that is not known.
    """
    if prediction == "epsilon":
        return (x - sigma * output) / alpha
    if prediction == "v_prediction":
        return alpha * x - sigma * output
    if prediction == "sample":
        return output
    raise InputError(f"the prediction type is {prediction!r}", allowed=", ".join(get_args(Prediction)))


def noise_of(output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """The eps that a network's output at the state x means. Raises as `tweedie` does."""
    if prediction == "epsilon":
        return output
    return (x - alpha * tweedie(output, x, alpha, sigma, prediction)) / sigma


def ddim_step(clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The state a x_0 + s eps at the time of (alpha, sigma): a deterministic step (2010.02502, eta 0) ends there."""
    return alpha * clean + sigma * noise


def renoised(
    x: Tensor, alpha: Tensor, sigma: Tensor, later_alpha: Tensor, later_sigma: Tensor, noise: Tensor
) -> Tensor:
    """The state at a later, noisier time that the forward process makes of x, which is at (alpha, sigma):

    (a_s / a) x + sqrt(s_s^2 - s^2 a_s^2 / a^2) eps, so that of x = a x_0 + s eps' it is a_s x_0 + s_s eps'' in law.
    """
    ratio = later_alpha / alpha
    return ratio * x + (later_sigma.square() - (sigma * ratio).square()).clamp(min=0).sqrt() * noise


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(d^2 + c^2) - c of each number: |d| far from 0, d^2 / 2c near it. Raises InputError for c <= 0."""
    if not c > 0:
        raise InputError(f"c of the pseudo-Huber loss is {c}", allowed="a number above 0, as 1e-3")
    return (difference.square() + c * c).sqrt() - c


def min_snr(alpha: Tensor, sigma: Tensor, limit: float) -> Tensor:
    """min(a^2 / s^2, limit): the weight of a loss on x_0, which is unbounded in s near the noise (2303.09556)."""
    return (alpha / sigma).square().clamp(max=limit)


def guided(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """eps_neg + s (eps_pos - eps_neg); at s = 1, and where both are equal, eps_pos bit for bit.

    The negative may be another network, or the same one without its condition: classifier-free guidance (2207.12598).
    """
    if scale == 1:
        return positive
    return torch.where(positive == negative, positive, negative + scale * (positive - negative))


def blended(
    start: Mapping[str, Tensor],
    positive: Mapping[str, Tensor] | None,
    trained: Mapping[str, Tensor],
    *,
    alpha: float,
    beta: float,
) -> dict[str, Tensor]:
    """theta + alpha eta + beta delta of each tensor: eta = positive - start, delta = trained - start.

    Exact at the ends: (0, 0) is `start`, (1, 0) is `positive` and (0, 1) is `trained`, bit for bit. positive None: eta
    is 0. Raises InputError for tensors that do not fit together.
    """
    require_same_shapes(start, trained, "the trained weights")
    if positive is not None:
        require_same_shapes(start, positive, "the positive weights")
    return {
        name: _blend(value, None if positive is None else positive[name], trained[name], alpha, beta)
        for name, value in start.items()
    }


def _blend(start: Tensor, positive: Tensor | None, trained: Tensor, alpha: float, beta: float) -> Tensor:
    base = start
    if positive is not None and alpha != 0:
        base = positive if alpha == 1 else start + alpha * (positive - start)
    if beta == 0:
        return base
    return trained if beta == 1 and base is start else base + beta * (trained - start)


def require_same_shapes(start: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str) -> None:
    """Raise InputError, naming the first tensor that is missing, new or of another shape."""
    for key in dict.fromkeys((*start, *other)):
        shapes = [tuple(table[key].shape) if key in table else None for table in (start, other)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{name} do not fit: {key} is {shapes[0]} in the start model and {shapes[1]} there",
                allowed="models of one architecture",
            )


def ddim_sample(
    predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, schedule: Schedule, *, clip: float | None = None
) -> Tensor:
    """The clean state at which the deterministic sampler arrives from the noise x, down the schedule's grid.

    predict: the output, guided or not, at (B, ...) states and their (B,) times. clip: the estimate of x_0 is held to
    [-clip, clip] at every step.
    """
    times = schedule.grid.flip(0).tolist()
    if not times:
        raise InputError("the grid of times is empty", allowed="one step or more")
    final = x.new_tensor(schedule.final_alpha)
    ends = [schedule.at(torch.tensor([time]), x) for time in times[1:]] + [(final, (1 - final.square()).sqrt())]
    for time, end in zip(times, ends, strict=True):
        now = torch.full((len(x),), time, device=x.device)
        alpha, sigma = schedule.at(now, x)
        output = predict(x, now)
        clean = tweedie(output, x, alpha, sigma, schedule.prediction)
        noise = noise_of(output, x, alpha, sigma, schedule.prediction)
        x = ddim_step(clean if clip is None else clean.clamp(-clip, clip), noise, *end)
    return x
