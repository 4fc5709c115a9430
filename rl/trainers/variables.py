"""What the zeroth-order loop moves, x, and how the model gets it: at x, at a point near it, or with a direction of it.

`Live`: x are the model's own weights, and the model at a point is made layer by layer (see perturbed.py).
`Placed`: x is a copy, in float32, from which the model's weights follow: the same ones, or those of a subspace. The
model at a point has them written into it. That takes a second copy of what is trained, and any sampler can be used.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, autograd, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from rl.methods._zeroth_order import Point
from rl.ops.perturbation import Subspace, Tensors
from rl.trainers.directions import Directions
from rl.trainers.perturbed import Shift, shifted_model, swapped

COEFFICIENTS = "coefficients"
"""The name of a subspace's x."""


class Variables(ABC):
    """x: the tensors that are moved, by name."""

    def __init__(self, model: nn.Module, directions: Directions, x: Tensors) -> None:
        self.model, self.directions, self.x = model, directions, x
        directions.number_coordinates(x)

    @abstractmethod
    def at(self, point: Point, step: int) -> contextlib.AbstractContextManager[None]:
        """Within it, the model is at that point; after it, bit for bit at x."""

    @abstractmethod
    def move(self, point: Point, step: int) -> None:
        """Make that point the new x."""

    @property
    def start(self) -> Tensors:
        """x as it was before the first step, where that is kept; else as it is."""
        return self.x

    @abstractmethod
    def along(self, number: int, step: int) -> contextlib.AbstractContextManager[None]:
        """Within it, what the model computes has the derivative along a direction (torch.autograd.forward_ad)."""

    def tensors(self) -> Tensors:
        """What a resumed run must know beside the model."""
        return {}

    def load_tensors(self, tensors: Tensors) -> None:  # noqa: B027 - the model's own weights need nothing
        """Take up `tensors`."""


class Live(Variables):
    """x are the trained weights of the model."""

    def __init__(self, model: nn.Module, directions: Directions) -> None:
        super().__init__(model, directions, trained(model))
        self.names = {id(tensor): name for name, tensor in self.x.items()}

    def at(self, point: Point, step: int) -> contextlib.AbstractContextManager[None]:
        is_here = all(tensor.device == self.directions.device for tensor in self.x.values())
        if not point.terms and is_here:
            return contextlib.nullcontext()
        return shifted_model(self.model, Shift(self.directions, self.names, point.terms, step))

    def move(self, point: Point, step: int) -> None:
        self.directions.move(self.x, point.terms, step)

    @contextlib.contextmanager
    def along(self, number: int, step: int) -> Iterator[None]:
        with _forward_derivatives(), contextlib.ExitStack() as stack:
            duals = {name: self._dual(name, tensor, number, step) for name, tensor in self.x.items()}
            for module in self.model.modules():
                own = {k: duals[self.names[id(p)]] for k, p in module._parameters.items() if id(p) in self.names}
                stack.enter_context(swapped(module, own))
            yield

    def _dual(self, name: str, tensor: Tensor, number: int, step: int) -> Tensor:
        direction = self.directions.whole(name, torch.zeros_like(tensor), ((number, 1.0),), step)
        return forward_ad.make_dual(tensor.detach(), direction)


class Placed(Variables):
    """x is a float32 copy of the trained weights, or with `dims` the coefficients of a subspace through them.

    Where it began is in checkpoints for subspaces, and for methods that must know it.
    """

    def __init__(self, model: nn.Module, directions: Directions, *, dims: int | None, seed: int) -> None:
        self.parameters = trained(model)
        self.dims, self.seed = dims, seed
        self.origin = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        self.subspace = Subspace(self.origin, dims=dims, seed=seed) if dims else None
        super().__init__(model, directions, self.start)
        self._write(self.x)

    @property
    def start(self) -> Tensors:
        return {COEFFICIENTS: self.subspace.zeros()} if self.subspace else self.origin

    @contextlib.contextmanager
    def at(self, point: Point, step: int) -> Iterator[None]:
        self._write(self.values(point, step))
        try:
            yield
        finally:
            self._write(self.x)

    def values(self, point: Point, step: int) -> Tensors:
        """The values of x at that point."""
        if point.values is not None:
            return point.values
        return {
            name: self.directions.whole(name, tensor, point.terms, step).to(tensor.device)
            for name, tensor in self.x.items()
        }

    def weights(self, values: Tensors) -> Tensors:
        """The trained weights that follow from values of x."""
        return self.subspace.at(values[COEFFICIENTS]) if self.subspace else values

    def move(self, point: Point, step: int) -> None:
        method = self.directions.method
        self.x = {name: method.allowed(tensor).clone() for name, tensor in self.values(point, step).items()}
        self._write(self.x)

    def along(self, number: int, step: int) -> contextlib.AbstractContextManager[None]:
        """Never: derivatives are taken along the model's own weights."""
        raise NotImplementedError("derivatives are taken along the model's own weights")

    def tensors(self) -> Tensors:
        kept = {f"x/{name}": tensor for name, tensor in self.x.items()}
        return kept | ({f"origin/{name}": t for name, t in self.origin.items()} if self._keeps_origin else {})

    @property
    def _keeps_origin(self) -> bool:
        return self.subspace is not None or self.directions.method.moves_values

    def load_tensors(self, tensors: Tensors) -> None:
        device = next(iter(self.origin.values())).device
        if self._keeps_origin:
            self.origin = {name: tensors[f"origin/{name}"].to(device) for name in self.origin}
        if self.subspace:
            self.subspace = Subspace(self.origin, dims=self.dims or 1, seed=self.seed)
        self.x = {name: tensors[f"x/{name}"].to(tensor.device) for name, tensor in self.x.items()}
        self._write(self.x)

    def _write(self, values: Tensors) -> None:
        with torch.no_grad():
            for name, weight in self.weights(values).items():
                self.parameters[name].copy_(weight)


def trained(model: nn.Module) -> dict[str, Any]:
    """The trained weights by name, those that modules share once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@contextlib.contextmanager
def _forward_derivatives() -> Iterator[None]:
    """A level of forward differentiation, with attention that has forward derivatives.

    torch makes its derivative rules with its own deprecated torch.jit.script, of which it warns at the first use.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), autograd.grad_mode.no_grad():
        yield
