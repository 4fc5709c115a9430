"""Self-NPO on networks of which everything is known: point masses, where every estimate can be written down."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from rl.methods._diffusion import DiffusionBatch, Predict
from rl.methods.self_npo import SelfNpo, SelfNpoConfig, later_times
from rl.ops.diffusion import Schedule


def schedule(steps: int = 25, prediction: Any = "epsilon") -> Schedule:
    cumulative = DDIMScheduler().alphas_cumprod.double()
    grid = torch.arange(1, steps + 1) * (1000 // steps) - 1
    return Schedule(cumulative.sqrt(), (1 - cumulative).sqrt(), grid, 1.0, prediction)


def point(value: float, given: Schedule) -> Predict:
    """The perfect network of data that are all `value`: eps = (x - a value) / s."""

    def predict(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        alpha, sigma = given.at(times, x)
        return (x - alpha * value) / sigma

    return predict


def batch(model: float, average: float, unconditional: float, rows: int = 64, **changes: Any) -> DiffusionBatch:
    given = schedule(**changes)
    clean = torch.full((rows, 1, 2, 2), average, dtype=torch.float64)
    networks = [point(value, given) for value in (model, average, unconditional)]
    return DiffusionBatch(clean, given, *networks, torch.Generator().manual_seed(0), rows)


def method(**settings: Any) -> SelfNpo:
    return SelfNpo(SelfNpoConfig(**settings))


@pytest.mark.parametrize(("guidance", "expected"), [(-1.0, 3.0), (0.0, 1.0), (-0.5, 2.0), (0.5, 0.0)])
def test_the_target_is_the_estimate_of_the_guided_average(guidance: float, expected: float) -> None:
    """Point masses 1 under the condition and 3 without it; outputs, and so estimates, are mixed linearly."""
    given, places = batch(0.0, 1.0, 3.0), torch.arange(25).repeat(2)
    x = torch.randn(50, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, times, target = method(guidance=guidance).truncated(given, x, places)
    torch.testing.assert_close(target, torch.full_like(target, expected), rtol=1e-3, atol=1e-3)
    assert torch.equal(times, given.schedule.grid[(places - 5).clamp(min=0)])


def test_the_way_there_is_diffusers_ddim() -> None:
    """From the 20th of 25 times five steps down, by another program."""
    scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(25)
    given = batch(0.0, 1.0, 3.0)
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, times, _ = method().truncated(given, x, torch.full((4,), 19))
    for time in scheduler.timesteps[5:10]:
        x = scheduler.step(given.unconditional(x, time.repeat(4)), time, x).prev_sample
    assert times.tolist() == [int(scheduler.timesteps[10])] * 4
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5)


def test_a_network_that_says_the_target_already_has_no_loss() -> None:
    loss, statistics = method().loss(batch(3.0, 1.0, 3.0))
    assert loss.item() == pytest.approx(0.0, abs=1e-6) and statistics["distance"].item() < 1e-6


def test_the_loss_is_the_weighted_modulus_of_the_difference() -> None:
    """Estimates 0 and a target of 3 everywhere: 3 without weights, and with them 3 mean min(a^2/s^2, 5)."""
    given = batch(0.0, 1.0, 3.0, rows=20_000)
    loss, statistics = method(min_snr=None).loss(given)
    assert loss.item() == pytest.approx(3 - 1e-3, abs=1e-3)
    assert statistics["distance"].item() == pytest.approx(loss.item())
    weighted, _ = method().loss(batch(0.0, 1.0, 3.0, rows=20_000))
    ratios = (given.schedule.alphas / given.schedule.sigmas).square().clamp(max=5)
    places = (torch.arange(25) - 5).clamp(min=0)
    means = [
        ratios[int(time) + 1 :].mean() if time < 999 else ratios[-1:].mean() for time in given.schedule.grid[places]
    ]
    assert weighted.item() == pytest.approx(3 * torch.stack(means).mean().item(), rel=0.05)


def test_gradients_reach_the_trained_network_alone() -> None:
    values = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.0, 1.0, 3.0)]
    given = schedule()
    networks = [point(value, given) for value in values]  # type: ignore[arg-type]
    rows = DiffusionBatch(torch.ones(8, 1, 2, 2).double(), given, *networks, torch.Generator().manual_seed(0), 8)
    loss, _ = method(guidance=-0.5).loss(rows)
    found = torch.autograd.grad(loss, values, allow_unused=True)
    assert found[0] is not None and found[0] < 0 and found[1:] == (None, None)


def test_shares_of_processes_add_up_to_the_mean() -> None:
    whole, _ = method(min_snr=None).loss(batch(0.0, 1.0, 3.0, rows=6))
    halves = []
    for rows in (4, 2):
        part = batch(0.0, 1.0, 3.0, rows=rows)
        part.total_rows = 6
        halves.append(method(min_snr=None).loss(part)[0].item())
    assert sum(halves) == pytest.approx(whole.item(), abs=1e-3)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_outputs_mean_the_same(prediction: str) -> None:
    given = schedule(prediction=prediction)

    def says(value: float) -> Predict:
        def predict(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            alpha, sigma = given.at(times, x)
            noise = (x - alpha * value) / sigma
            return torch.full_like(x, value) if prediction == "sample" else alpha * noise - sigma * value

        return predict

    networks = [says(value) for value in (3.0, 1.0, 3.0)]
    rows = DiffusionBatch(torch.ones(16, 1, 2, 2).double(), given, *networks, torch.Generator().manual_seed(0), 16)
    assert method().loss(rows)[0].item() == pytest.approx(0.0, abs=1e-6)


def test_later_times_are_later_and_any_of_them() -> None:
    times = torch.tensor([0, 39, 998, 999]).repeat(5000)
    found = later_times(times, 1000, torch.Generator().manual_seed(0)).reshape(-1, 4)
    assert (
        found[:, 0].min() <= 3
        and found[:, 0].max() >= 996
        and found[:, 0].float().mean().item() == pytest.approx(500, abs=15)
    )
    assert found[:, 1].min() >= 40
    assert found[:, 2].unique().tolist() == found[:, 3].unique().tolist() == [999]
