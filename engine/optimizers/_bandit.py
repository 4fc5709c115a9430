"""A neural bandit: a small network that learns scores from embeddings, and how sure it is of each.

Shapes: n samples, N candidates, d dimensions of an embedding, D = d + 1 with the constant, m the network's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATE, DECAY_1, DECAY_2, TINY = 0.01, 0.9, 0.999, 1e-8
"""Adam's settings (arXiv 1412.6980); the rate is ten times its usual one because the weights are of order one."""


@dataclass(frozen=True)
class Network:
    """f(x) = sum_j a_j relu(w_j x) / sqrt(m): one hidden layer in the scaling in which weights are of order one.

    hidden: the w_j, (m, D); output: the a_j, (m,).
    """

    hidden: Array
    output: Array

    @classmethod
    def drawn(cls, inputs: int, width: int, rng: np.random.Generator) -> Network:
        """A network that is zero everywhere: hidden weights N(0, 2) in equal pairs, output weights +1 and -1."""
        half = rng.normal(0, np.sqrt(2), (width // 2, inputs))
        return cls(np.concatenate([half, half]), np.repeat([1.0, -1.0], width // 2))

    def __call__(self, x: Array) -> Array:
        """(n, D) -> (n,)."""
        found: Array = np.maximum(x @ self.hidden.T, 0) @ self.output / np.sqrt(len(self.output))
        return found

    def gradients(self, x: Array, weights: Array) -> tuple[Array, Array]:
        """The gradients of sum_i weights_i f(x_i) by `hidden` (m, D) and by `output` (m,)."""
        active = np.maximum(x @ self.hidden.T, 0)
        scale = np.sqrt(len(self.output))
        back = np.where(active > 0, weights[:, None] * self.output, 0.0)
        return back.T @ x / scale, weights @ active / scale

    def kernel(self, x: Array, y: Array) -> Array:
        """Inner products g(x_i) . g(y_j) of the gradients of f by all weights, (n, N), without making any of them.

        By an output weight the gradient is relu(w_j x) / sqrt(m), by a hidden one a_j [w_j x > 0] x / sqrt(m).
        """
        at_x, at_y = x @ self.hidden.T, y @ self.hidden.T
        by_output = np.maximum(at_x, 0) @ np.maximum(at_y, 0).T
        by_hidden = ((at_x > 0) * self.output**2) @ (at_y > 0).T * (x @ y.T)
        found: Array = (by_output + by_hidden) / len(self.output)
        return found


def trained(start: Network, x: Array, y: Array, ridge: float, steps: int) -> Network:
    """The network after `steps` full-batch steps of Adam from `start`.

    The loss is (sum_i (f(x_i) - y_i)^2 + ridge |weights - start's|^2) / n. Where the network stays linear in its
    weights that is ridge regression in its gradients, of which `covariance` is the posterior.
    """
    weights = np.concatenate([start.hidden.ravel(), start.output])
    first, second, origin = np.zeros_like(weights), np.zeros_like(weights), weights.copy()
    network = start
    for step in range(1, steps + 1):
        slopes = network.gradients(x, 2 * (network(x) - y))
        slope = (np.concatenate([slopes[0].ravel(), slopes[1]]) + 2 * ridge * (weights - origin)) / len(x)
        first = DECAY_1 * first + (1 - DECAY_1) * slope
        second = DECAY_2 * second + (1 - DECAY_2) * slope**2
        size = np.sqrt(second / (1 - DECAY_2**step)) + TINY
        weights = weights - RATE * first / (1 - DECAY_1**step) / size
        network = Network(weights[: start.hidden.size].reshape(start.hidden.shape), weights[start.hidden.size :])
    return network


def covariance(network: Network, seen: Array, x: Array, ridge: float) -> Array:
    """ridge g(x_i)^T (ridge I + sum_s g(s) g(s)^T)^-1 g(x_j) over all weights, (N, N); its diagonal is sigma^2.

    By Woodbury's identity this is k(x, x) - k(x, s) (ridge I + k(s, s))^-1 k(s, x), so that only an n x n
    matrix is solved, and no matrix of the weights is made.
    """
    across = network.kernel(seen, x)
    solved = np.linalg.solve(network.kernel(seen, seen) + ridge * np.eye(len(seen)), across)
    found: Array = network.kernel(x, x) - across.T @ solved
    return found


@dataclass(frozen=True)
class Pick:
    """A chosen candidate: its place among the candidates, and the mean and sigma that it was chosen by."""

    place: int
    mean: float
    sigma: float


def picks(mean: Array, cov: Array, count: int, nu: float, ridge: float) -> list[Pick]:
    """`count` candidates by mean + nu sigma, the highest first.

    After each pick the covariance is what it would be with that candidate among the samples, so that one step
    does not pay for the same thing twice; the means are those of before.
    """
    cov, left, found = cov.copy(), list(range(len(mean))), []
    for _ in range(min(count, len(mean))):
        sigma = np.sqrt(np.maximum(np.diag(cov), 0))
        best = max(left, key=lambda i: mean[i] + nu * sigma[i])
        found.append(Pick(best, float(mean[best]), float(sigma[best])))
        left.remove(best)
        cov = cov - np.outer(cov[best], cov[best]) / (ridge + cov[best, best])
    return found


def standardized(x: Array, among: Array) -> Array:
    """Inputs of a network: each dimension in deviations of `among`, divided by sqrt(d), and a constant 1 behind."""
    spread = among.std(axis=0)
    scaled = (x - among.mean(axis=0)) / np.where(spread > 0, spread, 1.0) / np.sqrt(x.shape[1])
    return np.concatenate([scaled, np.ones((len(x), 1))], axis=1)
