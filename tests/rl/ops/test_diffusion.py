"""The diffusion operations against diffusers' own schedulers, hand calculations and laws of Gaussians."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from rl.ops import diffusion as ops
from rl.ops.diffusion import Schedule

PREDICTIONS = ("epsilon", "v_prediction", "sample")


def schedule_of(scheduler: Any, grid: torch.Tensor) -> Schedule:
    cumulative = scheduler.alphas_cumprod.double()
    final = float(scheduler.final_alpha_cumprod) ** 0.5
    return Schedule(cumulative.sqrt(), (1 - cumulative).sqrt(), grid, final, scheduler.config.prediction_type)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("settings", [{}, {"set_alpha_to_one": False, "beta_schedule": "scaled_linear"}])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_sampler_is_diffusers_ddim(prediction: str, settings: dict[str, Any], clip: float | None) -> None:
    """25 steps of an arbitrary function as the network."""
    scheduler = DDIMScheduler(
        prediction_type=prediction, timestep_spacing="trailing", clip_sample=clip is not None, **settings
    )
    scheduler.set_timesteps(25)

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return torch.tanh(2 * x + time.reshape(-1, 1) / 700)

    x = noise = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps:
        x = scheduler.step(network(x, time.repeat(3)), time, x).prev_sample
    schedule = schedule_of(scheduler, scheduler.timesteps.flip(0))
    torch.testing.assert_close(ops.ddim_sample(network, noise, schedule, clip=clip), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_output_says_the_picture_and_the_noise(prediction: Any) -> None:
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    clean, noise = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    x = alpha * clean + sigma * noise  # 1.0, 1.2
    output = {"epsilon": noise, "sample": clean, "v_prediction": alpha * noise - sigma * clean}[prediction]
    torch.testing.assert_close(ops.tweedie(output, x, alpha, sigma, prediction), clean)
    torch.testing.assert_close(ops.noise_of(output, x, alpha, sigma, prediction), noise)
    if prediction == "v_prediction":  # diffusers has the same convention
        scheduler = DDIMScheduler()
        cumulative, time = scheduler.alphas_cumprod, torch.tensor([400])
        a, s = cumulative[400].sqrt(), (1 - cumulative[400]).sqrt()
        torch.testing.assert_close(scheduler.get_velocity(clean, noise, time), a * noise - s * clean)


def test_an_unknown_prediction_type_is_named() -> None:
    with pytest.raises(InputError, match=r"'flow'\n.*epsilon, v_prediction, sample"):
        ops.tweedie(torch.ones(1), torch.ones(1), torch.ones(1), torch.ones(1), "flow")  # type: ignore[arg-type]


def test_noise_added_twice_is_the_noise_of_the_later_time() -> None:
    """From x_t of 200,000 rows of one picture: mean a_s x_0 and variance s_s^2, as one step from x_0 gives."""
    generator = torch.Generator().manual_seed(1)
    alpha, later = torch.tensor(0.9), torch.tensor(0.3)
    sigma, later_sigma = (1 - alpha**2).sqrt(), (1 - later**2).sqrt()
    first, second = (torch.randn(200_000, generator=generator) for _ in range(2))
    x = ops.renoised(alpha * 2.0 + sigma * first, alpha, sigma, later, later_sigma, second)
    assert x.mean().item() == pytest.approx(0.6, abs=0.01)
    assert x.var().item() == pytest.approx(1 - 0.09, abs=0.01)
    kept = ops.renoised(first, alpha, sigma, alpha, sigma, second)  # to the same time: nothing is added
    torch.testing.assert_close(kept, first)


def test_pseudo_huber_is_a_square_near_zero_and_a_modulus_far_away() -> None:
    assert ops.pseudo_huber(torch.tensor(4.0), 3.0).item() == pytest.approx(2.0)  # 3, 4, 5
    assert ops.pseudo_huber(torch.tensor(-1e3), 1e-3).item() == pytest.approx(1e3, rel=1e-5)
    near = torch.tensor(1e-3, dtype=torch.float64)
    assert ops.pseudo_huber(near, 1.0).item() == pytest.approx(0.5e-6, rel=1e-5)
    with pytest.raises(InputError, match="is 0"):
        ops.pseudo_huber(torch.ones(1), 0)


def test_min_snr_is_the_signal_over_the_noise_up_to_the_limit() -> None:
    alpha, sigma = torch.tensor([0.6, 0.99]), torch.tensor([0.8, 0.14106736])
    assert ops.min_snr(alpha, sigma, 5.0).tolist() == pytest.approx([0.5625, 5.0])


def test_guidance_is_exact_at_one_and_between_equal_outputs() -> None:
    positive, negative = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ops.guided(positive, negative, 1), positive)
    for scale in (0.1, 1.5, 7.5):
        assert torch.equal(ops.guided(positive, positive.clone(), scale), positive)
    assert ops.guided(torch.tensor(3.0), torch.tensor(1.0), 2.5).item() == 6.0
    assert torch.equal(ops.guided(positive, negative, 0), negative)


@given(alpha=st.floats(0, 1), beta=st.floats(-1, 2))
def test_blending_is_linear_and_exact_at_its_ends(alpha: float, beta: float) -> None:
    start, positive, trained = ({"w": torch.randn(7, generator=torch.Generator().manual_seed(s))} for s in range(3))
    found = ops.blended(start, positive, trained, alpha=alpha, beta=beta)["w"].double()
    s, p, t = (table["w"].double() for table in (start, positive, trained))
    torch.testing.assert_close(found, s + alpha * (p - s) + beta * (t - s), rtol=1e-5, atol=1e-5)
    for ends, expected in (((0, 0), start), ((1, 0), positive), ((0, 1), trained)):
        assert torch.equal(ops.blended(start, positive, trained, alpha=ends[0], beta=ends[1])["w"], expected["w"])
    assert torch.equal(ops.blended(start, None, trained, alpha=1, beta=1)["w"], trained["w"])


def test_blending_refuses_other_architectures() -> None:
    ones = {"w": torch.ones(2)}
    with pytest.raises(InputError, match=r"trained weights do not fit: w is \(2,\) .* and \(3,\) there"):
        ops.blended(ones, None, {"w": torch.ones(3)}, alpha=1, beta=1)
    with pytest.raises(InputError, match=r"positive weights do not fit: v is None"):
        ops.blended(ones, ones | {"v": torch.ones(1)}, ones, alpha=1, beta=1)


def test_a_perfect_network_of_a_gaussian_samples_it() -> None:
    """Data N(2, 0.5^2): E[eps | x_t] is linear, and 100 deterministic steps carry N(0, 1) there."""
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(100)
    schedule = schedule_of(scheduler, scheduler.timesteps.flip(0))

    def network(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        alpha, sigma = schedule.at(time, x)
        return sigma * (x - alpha * 2.0) / (alpha**2 * 0.25 + sigma**2)

    noise = torch.randn(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = ops.ddim_sample(network, noise, schedule)
    assert x.mean().item() == pytest.approx(2.0, abs=0.02)
    assert x.std().item() == pytest.approx(0.5, abs=0.02)
    assert math.isclose(schedule.final_alpha, 1.0)


def test_a_sampler_without_steps_is_refused() -> None:
    schedule = schedule_of(DDIMScheduler(), torch.tensor([], dtype=torch.long))
    with pytest.raises(InputError, match="grid of times is empty"):
        ops.ddim_sample(lambda x, time: x, torch.zeros(1, 1), schedule)


def test_a_sampler_may_end_before_the_clean_state() -> None:
    """A network that always says noise 2: of a = .8, x_0 = (x - .6 * 2) / .8 = 1, and .28 of the noise is put back."""
    alphas, sigmas = torch.tensor([0.8], dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)
    schedule = Schedule(alphas, sigmas, torch.tensor([0]), 0.96, "epsilon")
    found = ops.ddim_sample(lambda x, time: torch.full_like(x, 2.0), torch.full((1, 1), 2.0).double(), schedule)
    assert found.item() == pytest.approx(0.96 * 1.0 + 0.28 * 2.0)
