"""The Frechet distance against scipy's matrix root and a hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from engine.errors import InputError
from rl.ops.frechet import frechet_distance


def test_it_is_the_formula_with_scipys_root() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(40, 5, generator=generator).double() @ torch.randn(5, 5, generator=generator).double()
    b = torch.randn(60, 5, generator=generator).double() * 2 + 1
    means, covs = zip(*((x.numpy().mean(0), np.cov(x.numpy().T)) for x in (a, b)), strict=True)
    root = scipy.linalg.sqrtm(covs[0] @ covs[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covs[0] + covs[1] - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(float(expected), rel=1e-9)


def test_in_one_dimension_it_is_the_distance_of_means_and_deviations() -> None:
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [16.0]])  # 1 and 13; sqrt 2 and 3 sqrt 2
    assert frechet_distance(a, b) == pytest.approx(144 + 8)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 3), (4, 2), (4,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="2 rows or more"):
        frechet_distance(torch.zeros(shape), torch.zeros(5, 3))
