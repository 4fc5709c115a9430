"""A model that computes with other weights than it has: each layer's are made while it runs, and gone after it.

So a perturbed forward pass takes the memory of a plain one and a block of rows, the weights need not be put back, and
they may stay in another memory than the one that computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rl.methods._zeroth_order import Term
from rl.ops.perturbation import Tensors, row_blocks
from rl.trainers.directions import Directions


@dataclass
class Shift:
    """How every tensor of x is shifted. `names`: id of a parameter -> its name in x."""

    directions: Directions
    names: Mapping[int, str]
    terms: Sequence[Term]
    step: int

    def rows(self, parameter: Tensor, rows: slice) -> Tensor:
        """These rows, shifted if the parameter is of x, on the device that computes."""
        name = self.names.get(id(parameter))
        if name is None:
            return parameter.detach()[rows].to(self.directions.device)
        return self.directions.shifted(name, parameter, rows, self.terms, self.step)

    def whole(self, parameter: Tensor) -> Tensor:
        """The whole parameter, likewise."""
        name = self.names.get(id(parameter))
        if name is None:
            return parameter.detach().to(self.directions.device)
        return self.directions.whole(name, parameter, self.terms, self.step)


@contextlib.contextmanager
def shifted_model(model: nn.Module, shift: Shift) -> Iterator[None]:
    """Within it, every module that owns a tensor of x computes with shifted ones, where the directions are."""
    changed = []
    model.compute_device = shift.directions.device  # type: ignore[assignment]
    try:
        for module in model.modules():
            own = {key: p for key, p in module._parameters.items() if p is not None and id(p) in shift.names}
            if own:
                module.forward = _forward(module, own, shift)
                changed.append(module)
        yield
    finally:
        del model.compute_device
        for module in changed:
            del module.forward


def _forward(module: nn.Module, own: Mapping[str, Tensor], shift: Shift) -> Callable[..., Any]:
    """What the module computes instead: large matrices and tables by blocks of rows, all else with its tensors swapped.

    Subclasses may compute something else than the class, so they are not taken for it.
    """
    if type(module) is nn.Linear:
        return partial(_linear, module, shift)
    if type(module) is nn.Embedding and module.max_norm is None:
        return partial(_embedding, module, shift)
    return partial(_swapped, module, module.forward, own, shift)


def _linear(module: nn.Linear, shift: Shift, given: Tensor) -> Tensor:
    """x W^T + b, a block of rows of W after the other."""
    bias = None if module.bias is None else shift.whole(module.bias)
    blocks = list(row_blocks(module.weight))
    parts = [
        nn.functional.linear(given, shift.rows(module.weight, rows), None if bias is None else bias[rows])
        for rows in blocks
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _embedding(module: nn.Embedding, shift: Shift, ids: Tensor) -> Tensor:
    """The rows of the ids, a block of the table after the other; blocks without any of them are not made."""
    out: Tensor | None = None
    flat = ids.flatten()
    for rows in row_blocks(module.weight):
        places = ((flat >= rows.start) & (flat < rows.stop)).nonzero().flatten()
        if len(places):
            found = shift.rows(module.weight, rows)[flat[places] - rows.start]
            out = found.new_empty(len(flat), found.shape[1]) if out is None else out
            out[places] = found
    assert out is not None, "no token"
    return out.view(*ids.shape, -1)


def _swapped(
    module: nn.Module, forward: Callable[..., Any], own: Mapping[str, Tensor], shift: Shift, *args: Any, **kwargs: Any
) -> Any:
    with swapped(module, {key: shift.whole(parameter) for key, parameter in own.items()}):
        return forward(*args, **kwargs)


@contextlib.contextmanager
def swapped(module: nn.Module, tensors: Tensors) -> Iterator[None]:
    """Within it, the module has these tensors for its parameters of those names."""
    kept = {key: module._parameters[key] for key in tensors}
    module._parameters.update(tensors)  # type: ignore[arg-type]
    try:
        yield
    finally:
        module._parameters.update(kept)
