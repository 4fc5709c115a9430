"""Preferences between completions as numbers: win rates, cycles, and how far a policy can be exploited.

Shapes: k completions. C_ij in [0, 1] says how far i is preferred to j; NaN where nobody has said. Leading
dimensions are a batch.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from engine.errors import InputError
from rl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def symmetrized(preferences: Tensor) -> Tensor:
    """(..., k, k) with C_ij + C_ji = 1 and C_ii = 1/2: the mean of C_ij and 1 - C_ji, of which one may be NaN.

    Raises InputError for a matrix that is not square, and for values outside of [0, 1].
    """
    if preferences.dim() < 2 or preferences.shape[-1] != preferences.shape[-2]:
        raise InputError(f"preferences have shape {tuple(preferences.shape)}", allowed="(k, k): every one by every one")
    outside = (preferences < 0) | (preferences > 1)
    if outside.any():
        raise InputError(
            f"a preference is {preferences[outside][0].item():g}",
            allowed="0 (the second) to 1 (the first), NaN where there is no verdict",
        )
    both = torch.stack([preferences, 1 - preferences.mT])
    return both.nanmean(0).diagonal_scatter(preferences.new_full(preferences.shape[:-1], 0.5), dim1=-2, dim2=-1)


def win_rates(preferences_kk: Tensor) -> Tensor:
    """(..., k) mean preference for each completion over those that it was compared with: r_i = mean_{j != i} C_ij.

    preferences_kk: (..., k, k), a tensor or what makes one; symmetrized first. Where every pair is known the
    r_i sum to k/2. A completion that was compared with none has NaN. Raises InputError as `symmetrized` does.
    """
    values = torch.as_tensor(preferences_kk)
    values = symmetrized(values if values.is_floating_point() else values.float())
    itself = torch.eye(values.shape[-1], dtype=torch.bool, device=values.device)
    return values.masked_fill(itself, torch.nan).nanmean(-1)


def pairings(k: int, opponents: int | None, seed: object) -> list[tuple[int, int]]:
    """The pairs i, j to compare, so that each of k meets the same number of others, each other equally likely.

    opponents: c of them, or None for all; where both c and k are odd, c + 1. The places on a random circle are
    joined with the next c // 2, and with the one across where c is odd. So a win rate is an unbiased estimate
    of that over all others, and the rates still sum to k/2.
    """
    if opponents is None or opponents >= k - 1:
        return [(i, j) for i in range(k) for j in range(i + 1, k)]
    order = list(range(k))
    random.Random(str(seed)).shuffle(order)
    near = (opponents + 1) // 2 if k % 2 else opponents // 2
    pairs = [(order[a], order[(a + step) % k]) for step in range(1, near + 1) for a in range(k)]
    across = [(order[a], order[a + k // 2]) for a in range(k // 2)] if opponents % 2 and not k % 2 else []
    return sorted((min(pair), max(pair)) for pair in pairs + across)


def cyclic_triples(preferences: Tensor) -> tuple[int, int]:
    """How many triples of a symmetrized (k, k) matrix are cycles (i beats j beats l beats i), of how many decided ones.

    A triple is decided where none of its three pairs is a tie or unknown. A transitive preference has no cycle.
    """
    wins = (preferences > 0.5).to(torch.float64)
    decided = wins + wins.mT
    return round(_closed_walks(wins) / 3), round(_closed_walks(decided) / 6)


def exploitability(policy: Tensor, preferences: Tensor) -> Tensor:
    """(...,) max_i sum_j C_ij pi_j - 1/2 of a policy (..., k) over k answers: by how much the best reply beats it.

    0 for a minimax winner alone.
    """
    return (policy @ preferences.mT).amax(-1) - 0.5


def _closed_walks(edges: Tensor) -> float:
    """The closed walks of three steps: the trace of the cube."""
    return float((edges @ edges * edges.mT).sum())
