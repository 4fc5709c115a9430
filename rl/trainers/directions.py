"""Directions through weights, a block of rows at a time: the same numbers wherever and whenever they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rl.methods._zeroth_order import Term, ZerothOrderMethod
from rl.ops.perturbation import Tensors, block_noise, row_blocks


@dataclass
class Directions:
    """d_n of every step for the tensors x. `device`: where noise is drawn; it follows from the kind of it."""

    method: ZerothOrderMethod
    seed: int
    device: torch.device
    starts: dict[str, int] = field(default_factory=dict)

    def number_coordinates(self, x: Tensors) -> None:
        """Give every element its number: tensor by tensor, in order."""
        total = 0
        for name, tensor in x.items():
            self.starts[name] = total
            total += tensor.numel()

    def shifted(self, name: str, tensor: Tensor, rows: slice, terms: Sequence[Term], step: int) -> Tensor:
        """tensor[rows] + sum_n c_n d_n[rows], on the directions' device; a scalar is a row."""
        base = tensor.detach().view(1) if tensor.ndim == 0 else tensor.detach()[rows]
        base = value = base.to(self.device, non_blocking=True)
        mask = self.method.mask(name, base)
        for number, coefficient in terms:
            if self.method.touches(name, number):
                direction = self._block(name, tensor, rows, number, step)
                value = torch.add(value, direction if mask is None else direction * mask, alpha=coefficient)
        return value

    def whole(self, name: str, tensor: Tensor, terms: Sequence[Term], step: int) -> Tensor:
        """The whole tensor, shifted."""
        parts = [self.shifted(name, tensor, rows, terms, step) for rows in row_blocks(tensor)]
        return torch.cat(parts).view(tensor.shape)

    def move(self, x: Tensors, terms: Sequence[Term], step: int) -> None:
        """Shift the tensors themselves."""
        for name, tensor in x.items():
            target = tensor.detach().view(1) if tensor.ndim == 0 else tensor.detach()
            for rows in row_blocks(tensor):
                moved = self.method.allowed(self.shifted(name, tensor, rows, terms, step))
                target[rows] = moved.to(target.device)

    def _block(self, name: str, tensor: Tensor, rows: slice, number: int, step: int) -> Tensor:
        if self.method.directions == "noise":
            return block_noise(tensor, name, rows, (self.seed, step, number), self.device)
        shape = (rows.stop - rows.start, *tensor.shape[1:])
        block = torch.zeros(shape, dtype=tensor.dtype, device=self.device)
        width = tensor[0].numel() if tensor.ndim else 1
        place = number - self.starts[name] - rows.start * width
        if 0 <= place < block.numel():
            block.view(-1)[place] = 1.0
        return block
