"""ZO-RankSGD (2303.03751) on the numbers of a program, replayed from the steps of a history."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.optimizers._compared import Round
from engine.optimizers._space import Axis
from engine.optimizers.base import values_key
from engine.ranking.bradley_terry import Floats
from engine.ranking.oracle import level_weights, ranked_levels

PERTURBED = "perturbed around the held values"
SEARCHED = "a step along what the last ranking says"

LEAST_MU = 1e-3


@dataclass(frozen=True)
class Settings:
    """mu: size of the first perturbations, in shares of an interval; eta: the longest step, in lengths of a
    perturbation; gamma: ratio of one step to the one before; momentum: what stays of the direction before; shrink: what
    mu is multiplied by where a short step wins a line search, and divided by where the longest does."""

    mu: float
    eta: float
    gamma: float
    momentum: float
    shrink: float


@dataclass
class Descent:
    """The point that it is at, in [0, 1]^d, the direction in which it gets better, the size of perturbations, and
    whether a line search is next."""

    point: Floats
    direction: Floats
    mu: float
    is_search: bool = False


def replayed(rounds: Sequence[Round], axes: Sequence[Axis], start: Mapping[str, Any], settings: Settings) -> Descent:
    """The state after these rounds; those of other optimizers teach nothing.

    A ranking of perturbations gives g = sum_i w_i (u_i - u) with the weights of `level_weights`, the held values
    being one of those ranked; g is the mean over the examples, and the direction -g / |g| plus `momentum` times the
    one before. After a line search the point is the step with the best mean score.
    """
    state = Descent(coordinates(axes, start), np.zeros(len(axes)), settings.mu)
    for each in rounds:
        reasons = {e.candidate.reason for e in each.evaluations}
        if PERTURBED in reasons:
            _turn(state, _slope(each, axes, state.point), settings)
        elif SEARCHED in reasons:
            _move(state, each, axes, settings)
    return state


def _turn(state: Descent, slope: Floats, settings: Settings) -> None:
    length = float(np.linalg.norm(slope))
    if length > 0:
        state.direction = settings.momentum * state.direction - slope / length
        state.is_search = True


def _move(state: Descent, each: Round, axes: Sequence[Axis], settings: Settings) -> None:
    best = max(each.evaluations, key=lambda e: (len(e.examples), e.rank))  # halving runs only the best on all
    state.is_search = False
    if best.score is None:
        return
    point = coordinates(axes, best.candidate.values)
    share = float(np.linalg.norm(point - state.point)) / _longest(state, settings)
    if share > (1 + settings.gamma) / 2:
        state.mu = min(settings.mu, state.mu / settings.shrink)
    elif share < settings.gamma * (1 + settings.gamma) / 2:
        state.mu = max(LEAST_MU, state.mu * settings.shrink)
    state.point = point


def _longest(state: Descent, settings: Settings) -> float:
    return settings.eta * state.mu * math.sqrt(len(state.point))


def perturbed(state: Descent, axes: Sequence[Axis], rng: random.Random) -> Floats:
    """u + mu xi, xi ~ N(0, I), folded into the intervals; mu is at least two thirds of a whole number's width."""
    sizes = [max(state.mu, _step(axis, u)) for axis, u in zip(axes, state.point, strict=True)]
    return np.array([_folded(u + size * rng.gauss(0, 1)) for u, size in zip(state.point, sizes, strict=True)])


def step(state: Descent, number: int, settings: Settings) -> Floats:
    """u + eta mu sqrt(d) gamma^number along the direction, clipped at the ends of the intervals."""
    along = state.direction / (np.linalg.norm(state.direction) or 1.0)
    found: Floats = np.clip(state.point + _longest(state, settings) * settings.gamma**number * along, 0, 1)
    return found


def coordinates(axes: Sequence[Axis], values: Mapping[str, Any]) -> Floats:
    return np.array([axis.unit(values[axis.param.name]) for axis in axes])


def values_at(axes: Sequence[Axis], point: Floats) -> dict[str, Any]:
    return {axis.param.name: axis.value(float(u)) for axis, u in zip(axes, point, strict=True)}


def _slope(each: Round, axes: Sequence[Axis], at: Floats) -> Floats:
    """The mean over the rankings of g, in coordinates of the unit cube."""
    values = [each.held.candidate.values, *(e.candidate.values for e in each.evaluations)]
    points = {values_key(one): coordinates(axes, one) - at for one in values}
    number_of = {one: number for number, one in enumerate(points)}
    moved, slope = np.array(list(points.values())), np.zeros(len(axes))
    for ranking in each.rankings:
        weights = level_weights(ranked_levels(ranking, number_of, len(points)), len(points))
        slope += np.array(weights) @ moved / len(each.rankings)
    return slope


def _step(axis: Axis, unit: float) -> float:
    """Two thirds of a whole number's width, so that about half of the draws change it; 0 for other numbers."""
    if not axis.is_whole:
        return 0.0
    value = axis.value(unit)
    return abs(axis.unit(value + 1) - axis.unit(value) or axis.unit(value) - axis.unit(value - 1)) * 2 / 3


def _folded(u: float) -> float:
    """Mirrored at 0 and at 1."""
    u = abs(u) % 2
    return 2 - u if u > 1 else u
