"""The network's hand-written gradient, the covariance without weights, and what is picked."""

from __future__ import annotations

import numpy as np
import pytest

from engine.optimizers._bandit import Network, covariance, picks, standardized, trained


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def network(rng):
    """Any weights, not the symmetric ones of the start."""
    return Network(rng.normal(size=(6, 4)), rng.normal(size=6))


def flat(network):
    return np.concatenate([network.hidden.ravel(), network.output])


def unflat(weights, like):
    return Network(weights[: like.hidden.size].reshape(like.hidden.shape), weights[like.hidden.size :])


def jacobian(network, x):
    """(n, weights): the gradient of each output, one sample at a time."""
    rows = [network.gradients(row[None], np.ones(1)) for row in x]
    return np.array([np.concatenate([hidden.ravel(), output]) for hidden, output in rows])


def test_the_gradient_is_that_of_finite_differences(network, rng):
    x, weights = rng.normal(size=(5, 4)), rng.normal(size=5)
    found = np.concatenate([part.ravel() for part in network.gradients(x, weights)])
    step = 1e-6
    for place, start in enumerate(np.eye(len(flat(network)))):
        up, down = (unflat(flat(network) + sign * step * start, network)(x) @ weights for sign in (1, -1))
        assert found[place] == pytest.approx((up - down) / (2 * step), abs=1e-7)


def test_the_kernel_is_the_inner_product_of_the_gradients(network, rng):
    x, y = rng.normal(size=(5, 4)), rng.normal(size=(7, 4))
    np.testing.assert_allclose(network.kernel(x, y), jacobian(network, x) @ jacobian(network, y).T, atol=1e-12)


def test_the_covariance_is_that_of_the_direct_inverse_over_all_weights(network, rng):
    seen, x, ridge = rng.normal(size=(5, 4)), rng.normal(size=(7, 4)), 0.3
    g, s = jacobian(network, x), jacobian(network, seen)
    whole = np.linalg.inv(ridge * np.eye(g.shape[1]) + s.T @ s)
    np.testing.assert_allclose(covariance(network, seen, x, ridge), ridge * g @ whole @ g.T, atol=1e-12)


def test_a_drawn_network_is_zero_and_training_fits_the_scores_less_with_a_larger_ridge(rng):
    x = np.concatenate([rng.normal(size=(20, 3)), np.ones((20, 1))], axis=1)
    y = np.sin(x[:, 0]) + x[:, 1]
    start = Network.drawn(4, 100, rng)
    np.testing.assert_allclose(start(x), 0, atol=1e-12)
    close, far = (np.mean((trained(start, x, y, ridge, 300)(x) - y) ** 2) for ridge in (0.01, 10.0))
    assert close < 0.02 * np.mean(y**2) < far


def test_training_is_the_same_each_time(rng):
    x, y = rng.normal(size=(9, 4)), rng.normal(size=9)
    start = Network.drawn(4, 10, np.random.default_rng(1))
    once, again = (flat(trained(start, x, y, 0.1, 50)) for _ in range(2))
    assert (once == again).all()


def test_at_equal_means_the_candidate_far_from_the_samples_is_picked(network, rng):
    seen = np.array([[1.0, 0, 0, 1], [1.1, 0, 0, 1], [0.9, 0, 0, 1]])
    x = np.array([[1.05, 0, 0, 1], [0, 2.0, -1.0, 1]])
    cov = covariance(network, seen, x, 0.1)
    assert picks(np.zeros(2), cov, 1, nu=1.0, ridge=0.1)[0].place == 1
    assert picks(np.array([0.5, 0.0]), cov, 1, nu=0.0, ridge=0.1)[0].place == 0


def test_a_pick_counts_as_a_sample_for_the_next_one(network, rng):
    """Twins have the same sigma; after one of them the other is known nearly as well as if it had been run."""
    seen, x = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    x[1] = x[0] = 3 * x[0]
    found = picks(np.zeros(3), covariance(network, seen, x, 0.1), 3, nu=1.0, ridge=0.1)
    assert [pick.place for pick in found][:2] == [0, 2]
    after = covariance(network, np.concatenate([seen, x[[0]], x[[2]]]), x, 0.1)
    assert found[2].sigma == pytest.approx(np.sqrt(after[1, 1]), rel=1e-9)


def test_standardized_inputs_have_unit_length_in_the_mean_and_a_constant(rng):
    among = rng.normal(3, 5, size=(50, 7))
    among[:, 2] = 4  # a dimension that says nothing
    x = standardized(among, among)
    assert x.shape == (50, 8) and (x[:, -1] == 1).all() and (x[:, 2] == 0).all()
    assert np.mean(np.sum(x[:, :-1] ** 2, axis=1)) == pytest.approx(6 / 7)
