"""Noise that is never stored: it follows from (seed, step, candidate), for a tensor or for tensors by name.

A large tensor has its noise in blocks of rows, each from a stream of its own, so that no more than a block of it
need ever be there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from rl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
BLOCK = 1 << 20
"""Most elements of a block of noise, unless a single row has more."""


class Space:
    """Where values live that look like `like`: one tensor (a list or array becomes one), or a dict of tensors.

    Inside, a value is a dict of tensors of at least float32 (`pack`), so that small steps are not rounded away
    in half precision; `unpack` gives it back in like's form and dtypes. Raises InputError for what is empty,
    not floating-point or not finite.
    """

    def __init__(self, like: Any) -> None:
        self.is_named = isinstance(like, Mapping)
        found = self._tensors(like)
        self.dtypes = {name: tensor.dtype for name, tensor in found.items()}
        if not sum(tensor.numel() for tensor in found.values()):
            raise InputError("a space without an element", allowed="a tensor, or a dict of tensors by name")
        for name, tensor in found.items():
            label = f"the tensor {name!r}" if self.is_named else "the tensor"
            if not tensor.is_floating_point():
                raise InputError(f"{label} is of {tensor.dtype}", allowed="a floating-point type")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{label} holds NaN or an infinity", allowed="finite numbers")

    def pack(self, value: Any) -> Tensors:
        """A copy of the value as tensors by name, detached, in float32 or wider."""
        return {
            name: tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
            for name, tensor in self._tensors(value).items()
        }

    def unpack(self, tensors: Tensors) -> Any:
        """The value in its own form and dtypes: a copy."""
        value = {name: tensor.to(self.dtypes[name], copy=True) for name, tensor in tensors.items()}
        return value if self.is_named else value[""]

    def _tensors(self, value: Any) -> Tensors:
        named = value.items() if self.is_named else [("", value)]
        try:
            return {name: torch.as_tensor(tensor) for name, tensor in named}
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"no tensor can be made of it: {error}", allowed="tensors, arrays or numbers") from None


def noise(like: Tensors, *key: int | str) -> Tensors:
    """Standard normal tensors in the shapes of `like`: the same for the same key, on every device.

    key: whole numbers and texts, such as (seed, step, candidate). Each name has a stream of its own, so a
    tensor's noise does not depend on which others there are. Drawn on the CPU, then moved to like's device.
    """
    drawn = {}
    for name, tensor in like.items():
        parts = [block_noise(tensor, name, rows, key) for rows in row_blocks(tensor)]
        drawn[name] = (torch.cat(parts).view(tensor.shape) if parts else torch.empty_like(tensor)).to(tensor.device)
    return drawn


def row_blocks(tensor: Tensor) -> Iterator[slice]:
    """The rows (indices of the first dimension) in blocks of at most BLOCK elements; a scalar is one row."""
    count = len(tensor) if tensor.ndim else 1
    rows = max(1, BLOCK * count // max(1, tensor.numel()))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def block_noise(
    tensor: Tensor, name: str, rows: slice, key: tuple[int | str, ...], device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise of a block of `row_blocks`, (rows, ...), for the tensor of that name.

    It follows from (key, name, first row) and from the kind of device that draws it. A scalar has one row.
    """
    place = (rows.start,) if rows.start else ()
    source = torch.Generator(device).manual_seed(stream(*key, name, *place))
    shape = (rows.stop - rows.start, *tensor.shape[1:])
    return torch.randn(shape, generator=source, dtype=tensor.dtype, device=device)


def stream(*key: int | str) -> int:
    """A 63-bit seed that follows from the whole key."""
    return int.from_bytes(hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest(), "big") >> 1


class Subspace:
    """A few random directions through a value, say an adapter, for rankers who can rank in few dimensions only.

    origin: a tensor or a dict of tensors of n elements in all. dims: how many directions, at most n; 50 or
    fewer for people. The basis is orthonormal over all tensors together and follows from the seed; it takes
    dims x n numbers of memory.
    """

    def __init__(self, origin: Any, *, dims: int, seed: int = 0) -> None:
        self._space = Space(origin)
        self._origin = self._space.pack(origin)
        size = sum(tensor.numel() for tensor in self._origin.values())
        if not 1 <= dims <= size:
            raise InputError(f"a subspace of {dims} dimensions", allowed=f"1 to {size}, the elements of its origin")
        draws = [noise(self._origin, "subspace", seed, number) for number in range(dims)]
        columns = [torch.cat([tensor.cpu().flatten() for tensor in draw.values()]) for draw in draws]
        basis, scale = torch.linalg.qr(torch.stack(columns, dim=1))
        self.basis = (basis * torch.sign(torch.diagonal(scale))).T
        """(dims, n): Gram-Schmidt of the random directions."""

    def zeros(self) -> Tensor:
        """(dims,) coefficients of the origin."""
        return torch.zeros(len(self.basis), dtype=self.basis.dtype)

    def at(self, coefficients: Any) -> Any:
        """origin + sum_j coefficients[j] basis[j], in the origin's form. Raises InputError for another length."""
        given = torch.as_tensor(coefficients).detach().to("cpu", self.basis.dtype)
        if given.shape != (len(self.basis),):
            raise InputError(f"coefficients of shape {tuple(given.shape)}", allowed=f"({len(self.basis)},)")
        parts = (given @ self.basis).split([tensor.numel() for tensor in self._origin.values()])
        moved = {
            name: tensor + part.view(tensor.shape).to(tensor.device, tensor.dtype)
            for (name, tensor), part in zip(self._origin.items(), parts, strict=True)
        }
        return self._space.unpack(moved)
