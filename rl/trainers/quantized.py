"""Linear layers whose weights are whole numbers of a few bits, times scales, which alone are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import CheckpointError, InputError
from rl.config import QuantizeConfig

SCALES = "scales.safetensors"


class QuantizedLinear(nn.Module):
    """x (q s)^T + b: q (out, in) are whole numbers, s (out, in / group) a scale for each run of `group` of a row.

    Symmetric, to the nearest: s = max |w| / (2^(bits - 1) - 1) over the run. With 4 bits two numbers share a byte.
    """

    numbers: Tensor

    def __init__(self, linear: nn.Linear, bits: int, group: int) -> None:
        super().__init__()
        self.bits, self.group = bits, group
        most = 2 ** (bits - 1) - 1
        runs = linear.weight.detach().float().unflatten(1, (-1, group))
        scales = runs.abs().amax(-1).clamp(min=1e-12) / most
        numbers = (runs / scales[..., None]).round().clamp(-most, most).to(torch.int8).flatten(1)
        self.register_buffer("numbers", packed(numbers) if bits == 4 else numbers, persistent=False)
        self.scales = nn.Parameter(scales)
        self.bias = linear.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)

    def weight(self) -> Tensor:
        """(out, in) float32."""
        numbers = unpacked(self.numbers) if self.bits == 4 else self.numbers
        return (numbers.unflatten(1, (-1, self.group)) * self.scales[..., None]).flatten(1)

    def forward(self, given: Tensor) -> Tensor:
        return nn.functional.linear(given, self.weight().to(given.dtype), self.bias)


def packed(numbers: Tensor) -> Tensor:
    """Two numbers of -7..7 in a byte: the even columns in the low half."""
    shifted = (numbers + 8).to(torch.uint8)
    return shifted[:, ::2] | (shifted[:, 1::2] << 4)


def unpacked(both: Tensor) -> Tensor:
    """int8 numbers, of `packed`."""
    return torch.stack([both & 15, both >> 4], dim=-1).flatten(1).to(torch.int8) - 8


def quantize(model: Any, config: QuantizeConfig, checkpoint: Path | None) -> Any:
    """Quantize every linear layer but the head, and train their scales alone; those of the checkpoint, if given.

    Raises InputError for a group that does not divide a layer's inputs.
    """
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module is not head:
            if module.in_features % config.group:
                raise InputError(
                    f"{name} has {module.in_features} inputs, and groups of {config.group} do not divide them",
                    place="model.quantize.group",
                    allowed="a divisor of every layer's inputs",
                )
            model.set_submodule(name, QuantizedLinear(module, config.bits, config.group))
    if checkpoint is not None:
        _load_scales(model, checkpoint)
    return model


def save_quantized(model: Any, path: Path) -> None:
    """The model as plain weights, which transformers loads, and its scales beside them."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(".scales")}
    layers = {n: m for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    model.save_pretrained(path, state_dict=state | {f"{n}.weight": m.weight().detach() for n, m in layers.items()})
    save_file({name: layer.scales.detach() for name, layer in layers.items()}, path / SCALES)


def is_quantized(model: nn.Module) -> bool:
    return any(isinstance(module, QuantizedLinear) for module in model.modules())


def _load_scales(model: nn.Module, checkpoint: Path) -> None:
    scales = load_file(checkpoint / SCALES)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    if set(scales) != set(layers):
        raise CheckpointError("the scales are of another model", place=str(checkpoint / SCALES))
    with torch.no_grad():
        for name, layer in layers.items():
            layer.scales.copy_(scales[name])
