"""The family of zeroth-order methods on functions whose gradients are known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from engine.errors import InputError
from rl.methods import load as load_method
from rl.methods._zeroth_order import Measured, Point, Slope, central_slopes
from rl.methods.es import deviation, standardized
from rl.ops.perturbation import noise
from rl.trainers.directions import Directions

Function = Callable[[Tensor], Tensor]


class Descent:
    """A method on a function of one tensor, as the trainer drives it."""

    def __init__(self, kind: str, function: Function, x0: Tensor, **settings: Any) -> None:
        self.method: Any = load_method(kind)
        self.method = self.method(self.method.Config(**settings), seed=0)
        self.function, self.x, self.step = function, {"x": x0.clone()}, 0
        self.directions = Directions(self.method, 0, torch.device("cpu"))
        self.directions.number_coordinates(self.x)
        self.method.begin(self.x)

    def at(self, point: Point | Slope) -> Measured:
        if isinstance(point, Slope):
            drawn, x = noise(self.x, 0, self.step, point.number)["x"], self.x["x"].clone().requires_grad_()
            return Measured(float((torch.autograd.grad(self.function(x), x)[0] * drawn).sum()))
        return Measured(float(self.function(self.directions.whole("x", self.x["x"], point.terms, self.step))))

    def one_step(self, rate: float) -> Point:
        move = self.method.move(self.step, rate, [self.at(point) for point in self.method.points(self.step)])
        self.directions.move(self.x, move.terms, self.step)
        self.step += 1
        return move


GRADIENT = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
START = torch.tensor([0.3, -0.1, 2.0, 0.7], dtype=torch.float64)


def linear(x: Tensor) -> Tensor:
    return (GRADIENT * x).sum()


def quadratic(x: Tensor) -> Tensor:
    return (x.square() * torch.arange(1, 5)).sum()


@pytest.mark.parametrize("kind", ["mezo", "forward_gradient", "qzo"])
def test_the_mean_of_many_estimates_is_the_gradient(kind: str) -> None:
    """E (g . z) z = g; each component's variance is |g|^2 + g_j^2."""
    n = 4000
    settings = {"estimates": n} | ({"clip": 1e9} if kind == "qzo" else {})
    descent = Descent(kind, linear, START + 100, **settings)
    descent.one_step(1.0)
    found = START + 100 - descent.x["x"]
    bounds = 4 * (GRADIENT.square().sum() + GRADIENT.square()).sqrt() / math.sqrt(n)
    assert bool(((found - GRADIENT).abs() < bounds).all())


def test_central_slopes_have_no_error_on_a_quadratic() -> None:
    x, z, mu = 1.7, 0.4, 0.3
    losses = [Measured((x + sign * mu * z) ** 2) for sign in (1, -1)]
    assert central_slopes(losses, mu) == [pytest.approx(2 * x * z)]


def test_the_slope_along_a_direction_is_the_limit_of_the_differences() -> None:
    exact = Descent("forward_gradient", quadratic, START).one_step(1.0).terms
    near = Descent("mezo", quadratic, START, mu=1e-4).one_step(1.0).terms
    assert exact[0][1] == pytest.approx(near[0][1], rel=1e-8)


def test_a_slope_is_clipped_in_size_and_keeps_its_sign() -> None:
    descent = Descent("qzo", lambda x: 1e5 * linear(x), START, estimates=8)
    terms = descent.one_step(1.0).terms
    assert {abs(coefficient) for _, coefficient in terms} == {100 / 8} and descent.method.metrics["clipped"] == 1.0
    free = Descent("mezo", lambda x: 1e5 * linear(x), START, estimates=8).one_step(1.0).terms
    assert [c > 0 for _, c in terms] == [c > 0 for _, c in free]


@pytest.mark.parametrize("is_central, error", [(False, 1e-3), (True, 1e-9)])
def test_coordinates_give_the_gradient_up_to_mu_or_its_square(is_central: bool, error: float) -> None:
    """d/dx_j sum j x_j^2 = 2 j x_j; a forward difference adds mu j."""
    mu = 1e-4
    descent = Descent("cge", quadratic, START, mu=mu, central=is_central)
    assert len(descent.method.points(0)) == (8 if is_central else 5)
    descent.one_step(1.0)
    factors = torch.arange(1, 5, dtype=torch.float64)
    wanted = 2 * factors * START + (0 if is_central else mu * factors)
    torch.testing.assert_close(START - descent.x["x"], wanted, atol=1e-7, rtol=error)


def test_a_share_of_the_coordinates_is_another_one_each_step() -> None:
    descent = Descent("cge", linear, START, coordinates=2)
    moved = []
    for _ in range(12):
        before = descent.x["x"].clone()
        descent.one_step(0.1)
        moved.append(tuple((descent.x["x"] != before).nonzero().flatten().tolist()))
    assert all(len(places) == 2 for places in moved) and {j for places in moved for j in places} == {0, 1, 2, 3}


@pytest.mark.parametrize("is_antithetic", [False, True])
def test_evolution_strategies_go_against_the_gradient_by_the_learning_rate(is_antithetic: bool) -> None:
    """On a linear loss A_n = -g . eps_n / |g|, so the step is -alpha g / |g|, whatever the scale."""
    for scale in (1.0, 1e6):
        settings = {"population": 8000, "antithetic": is_antithetic, "mu": 0.1}
        descent = Descent("es", lambda x, scale=scale: scale * linear(x), START, **settings)
        descent.one_step(0.5)
        torch.testing.assert_close((descent.x["x"] - START) / 0.5, -GRADIENT / GRADIENT.norm(), atol=0.06, rtol=0)


def test_standard_scores_are_those_of_numpy_and_say_nothing_of_equal_or_missing_rewards() -> None:
    values = [0.3, 1.2, -4.0, 0.31]
    wanted = (numpy.array(values) - numpy.mean(values)) / numpy.std(values)
    assert standardized(values) == pytest.approx(wanted.tolist())
    with_gap = standardized([0.3, math.nan, 1.2, -4.0, 0.31])
    assert with_gap[1] == 0.0 and with_gap[:1] + with_gap[2:] == pytest.approx(wanted.tolist())
    assert standardized([0.1 + 0.2] * 3) == [0.0] * 3
    assert deviation(values) == pytest.approx(statistics.pstdev(values))


def test_members_without_difference_move_nothing() -> None:
    move = Descent("es", lambda x: torch.tensor(0.7), START).one_step(0.5)
    assert move.terms == ()


def test_an_odd_population_has_no_pairs() -> None:
    with pytest.raises(ValidationError, match="must be even"):
        load_method("es").Config(population=5, antithetic=True)


def test_small_weights_move_and_large_ones_stay() -> None:
    """The quantile is numpy's; a norm's weights have none."""
    x = torch.randn(40, 50, generator=torch.Generator().manual_seed(1))
    descent = Descent("sparse_mezo", lambda x: x.sum(), x, share=0.3)
    descent.one_step(1e-3)
    moved = descent.x["x"] != x
    assert bool((x[moved].abs() <= numpy.quantile(x.abs().numpy(), 0.3) + 1e-3).all())
    assert moved.float().mean() == pytest.approx(0.3, abs=0.01)
    assert descent.method.mask("x", torch.ones(3, 3)).sum() == 0
    descent.method.begin({"norm": torch.ones(5)})
    assert descent.method.mask("norm", torch.ones(5)) is None


def test_its_thresholds_are_those_of_the_start_after_a_resume() -> None:
    first = Descent("sparse_mezo", linear, START[None])
    other = Descent("sparse_mezo", linear, 9 * START[None])
    other.method.load_state_dict(first.method.state_dict())
    assert other.method.thresholds == first.method.thresholds


def test_a_block_moves_at_a_time_and_each_has_its_turn() -> None:
    method_class: Any = load_method("block_mezo")
    method = method_class(method_class.Config(blocks=3, blocks_per_step=1, estimates=2))
    names = [f"t{i}" for i in range(7)]
    method.begin({name: torch.zeros(1) for name in names})
    seen = []
    for step in range(3):
        numbers = {number for point in method.points(step) for number, _ in point.terms}
        touched = {name for name in names for number in numbers if method.touches(name, number)}
        assert len(method.points(step)) == 4 and len(numbers) == 2
        seen.append(touched)
    assert set.union(*seen) == set(names) and sum(map(len, seen)) == 7
    move = method.move(1, 1.0, [Measured(1.0), Measured(0.0), Measured(0.0), Measured(0.0)])
    assert move.terms == ((1, pytest.approx(-1 / (2 * 1e-3) / 2)), (4, 0.0))


def test_more_blocks_than_tensors() -> None:
    with pytest.raises(InputError, match="5 blocks of 1 tensors"):
        Descent("block_mezo", linear, START, blocks=5)


def test_fewer_dimensions_make_a_better_estimate() -> None:
    """cos(c z, g) of one direction: its square has mean 1/d."""
    for dims in (5, 50):
        gradient = torch.randn(dims, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        squares = []
        descent = Descent("mezo", lambda x, g=gradient: (g * x).sum(), torch.zeros(dims, dtype=torch.float64))
        for _ in range(400):
            before = descent.x["x"].clone()
            descent.one_step(1.0)
            moved = descent.x["x"] - before
            squares.append(float((moved @ gradient / moved.norm() / gradient.norm()) ** 2))
        assert statistics.mean(squares) == pytest.approx(1 / dims, rel=0.25)
