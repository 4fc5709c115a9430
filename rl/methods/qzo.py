"""QZO: zeroth-order descent on the scales of a quantized model.

Paper: 2505.13430 (equations 5 and 7):

    W = s q with q fixed;   d = (L(s + mu z) - L(s - mu z)) / (2 mu)
    s <- max(s - lr clip(d, -C, C) z, 0)

What it means: the whole numbers of the model stay as they are, and its scales, one for every `group` weights, are
continuous, so they can be perturbed where the weights cannot. Neither gradients nor full weights are in memory. What it
assumes: scales are enough to say what is to be learnt. When it fails: slopes of a quantized model are wild, without the
clip a run diverges; watch `clipped`, the share of slopes that were.

Departures from the paper:
1. Quantization is to the nearest, symmetric, in groups of a row (`model.quantize`), made here from the model's weights;
   the paper starts from GPTQ's and AQLM's models.
2. The head and the embeddings are not quantized, and not trained.
3. All of mezo's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from rl.methods.base import MethodConfig
from rl.methods.mezo import Mezo, MezoConfig

if TYPE_CHECKING:
    from torch import Tensor


class QzoConfig(MezoConfig):
    """`clip`: C."""

    kind: Literal["qzo"] = "qzo"  # type: ignore[assignment]
    clip: float | None = Field(default=100.0, gt=0)


class Qzo(Mezo):
    """QZO. See the module."""

    Config: ClassVar[type[MethodConfig]] = QzoConfig
    paper = "2505.13430"
    title = "Zeroth-order descent on a quantized model's scales"
    is_quantized = True

    def allowed(self, values: Tensor) -> Tensor:
        """Scales are not negative."""
        return values.clamp(min=0)


METHOD = Qzo
