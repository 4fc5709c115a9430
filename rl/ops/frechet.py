"""How far two samples are from each other as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import InputError
from rl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of Gaussians fitted to (n, d) and (m, d) features (1706.08500).

    Computed in float64 by eigenvalues of the symmetric C_a^(1/2) C_b C_a^(1/2). It is biased upwards by some d / n:
    compare samples of one size. Raises InputError for other shapes, and for fewer than two rows.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(
            f"features of shapes {tuple(a.shape)} and {tuple(b.shape)}", allowed="(n, d) and (m, d), 2 rows or more"
        )
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(a.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    return float((mean + cov_a.trace() + cov_b.trace() - 2 * cross).clamp(min=0))
