"""Sparse MeZO: zeroth-order descent in the small weights alone.

Paper: 2402.15751:

    m_j = 1 where |x_j| <= h, h the `share` quantile of |x| in its tensor at the start
    c = (L(x + mu m z) - L(x - mu m z)) / (2 mu),   x <- x - lr c m z

What it means: large weights hold what the model knows, and noise on them does most of the damage; without them
the estimate is of fewer dimensions and takes larger rates. What it assumes: weights whose size says so; adapters, which
begin at 0, have no such sizes. When it fails: see mezo.

Values: the paper moves the 20 to 30 % of smallest weights in a layer (sparsity 0.7 to 0.8), at up to 10 times
MeZO's rate.

Departures from the paper:
1. Thresholds are per tensor, as in the paper, computed once on a sample of at most a million of its weights; the mask
   follows from the weights as they are at each step, and is never stored.
2. Tensors of one dimension (norms, biases) are perturbed whole: a quantile of a norm's weights means nothing.
3. All of mezo's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from rl.lazy import torch
from rl.methods.base import MethodConfig
from rl.methods.mezo import Mezo, MezoConfig
from rl.ops.perturbation import Tensors

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE = 1_000_000


class SparseMezoConfig(MezoConfig):
    """`share`: of each tensor's weights, the smallest, that are moved."""

    kind: Literal["sparse_mezo"] = "sparse_mezo"  # type: ignore[assignment]
    share: float = Field(default=0.25, gt=0, le=1)


class SparseMezo(Mezo):
    """Sparse MeZO. See the module."""

    Config: ClassVar[type[MethodConfig]] = SparseMezoConfig
    paper = "2402.15751"
    title = "Zeroth-order descent in the small weights"
    config: SparseMezoConfig

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.thresholds: dict[str, float] = {}

    def begin(self, x: Tensors) -> None:
        """Find the thresholds."""
        self.thresholds = {name: quantile(t, self.config.share) for name, t in x.items() if t.ndim > 1}

    def mask(self, name: str, weights: Tensor) -> Tensor | None:
        """1 at the small weights."""
        if name not in self.thresholds:
            return None
        return (weights.abs() <= self.thresholds[name]).to(weights.dtype)

    def state_dict(self) -> dict[str, Any]:
        """The thresholds, which are those of the start."""
        return {"thresholds": self.thresholds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.thresholds = dict(state["thresholds"])


def quantile(tensor: Tensor, share: float) -> float:
    """The size below which that share of the elements is, of at most a million at equal distances."""
    flat = tensor.detach().flatten()
    sample = flat[:: -(-len(flat) // SAMPLE)].abs().float()
    place = max(1, round(share * len(sample)))
    return float(torch.kthvalue(sample, place).values)


METHOD = SparseMezo
