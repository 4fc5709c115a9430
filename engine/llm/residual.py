"""The residual stream of a transformers model: read at a layer, and added to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from engine.errors import InputError
from engine.llm.steering import Steering

LAYER_LISTS = ("layers", "h", "blocks")
BATCH = 32


def decoder_layer(model: Any, depth: float) -> torch.nn.Module:
    """Decoder layer int(depth * layers), counted from 0. Raises InputError for a model without such layers."""
    decoder = model.get_decoder()
    for name in LAYER_LISTS:
        if isinstance(layers := getattr(decoder, name, None), torch.nn.ModuleList):
            return layers[int(depth * len(layers))]
    raise InputError(
        f"no list of decoder layers in {type(decoder).__name__}", allowed=f"one called {', '.join(LAYER_LISTS)}"
    )


@contextmanager
def added(layer: torch.nn.Module, offset: torch.Tensor, *, start: int = -1) -> Iterator[None]:
    """Inside, each forward pass adds the offset once to the layer's output, at the positions from `start` on.

    offset: (d,), or (B, d) for an offset a row. The default start is the last position, which with left padding
    is each row's last token. The hook is taken off in the end, and after an error too.
    """

    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        states = output if isinstance(output, torch.Tensor) else output[0]
        moved = states.clone()
        moved[:, start:] += (offset if offset.dim() == 1 else offset[:, None]).to(states)
        return moved if isinstance(output, torch.Tensor) else (moved, *output[1:])

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def pooled(model: Any, layer: torch.nn.Module, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, float]:
    """(N, d) means of each row's token states at the layer's output, and the mean norm of all those states.

    The first token of a row is left out, so a row has at least two. float32.
    """
    means, norms = [], []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        states = _states(model, layer, part)
        for state, row in zip(states, part, strict=True):
            own = state[1 : len(row)].float()
            means.append(own.mean(0))
            norms.append(own.norm(dim=-1))
    return torch.stack(means), float(torch.cat(norms).mean())


def _states(model: Any, layer: torch.nn.Module, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(rows, longest, d) at the layer's output, padded on the right."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    caught: list[torch.Tensor] = []
    handle = layer.register_forward_hook(
        lambda module, inputs, output: caught.append(output if isinstance(output, torch.Tensor) else output[0])
    )
    try:
        model(ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    return caught[0]


def offset_of(model: Any, encode: Callable[[str], list[int]], steering: Steering) -> torch.Tensor:
    """(d,) the steering's offset, by its formula.

    A text of one token is read after a line break, so that one token is left. Raises InputError where both
    sides have the same mean.
    """

    def tokens(text: str) -> list[int]:
        found = encode(text)
        return found if len(found) > 1 else encode("\n") + found

    layer = decoder_layer(model, steering.depth)
    rows = [tokens(text) for text in (*steering.positive, *steering.negative)]
    means, norm = pooled(model, layer, rows)
    cut = len(steering.positive)
    direction = means[:cut].mean(0) - means[cut:].mean(0)
    length = float(direction.norm())
    if length <= 1e-6 * norm:
        raise InputError("steering: the positive and the negative texts are the same", allowed="texts that differ")
    return direction * (steering.alpha * norm / length)


class Steerer:
    """Steers the forward passes of one call; with alpha 0, or no steering, it does nothing at all.

    `fed` gives the tokens of the next forward pass. In mode "exact" the last cached position, which was steered, is
    taken out of the cache and read again, unsteered, before the new one.
    """

    def __init__(self, model: Any, encode: Callable[[str], list[int]], steering: Steering | None) -> None:
        self._is_exact = steering is not None and steering.alpha != 0 and steering.mode == "exact"
        self._layer, self._offset = None, None
        if steering is not None and steering.alpha != 0:
            self._layer, self._offset = decoder_layer(model, steering.depth), offset_of(model, encode, steering)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The model is steered inside."""
        if self._layer is None or self._offset is None:
            yield
            return
        with added(self._layer, self._offset):
            yield

    def fed(self, cache: Any, previous: Sequence[int], tokens: Sequence[int]) -> list[list[int]]:
        """The tokens to forward for each row, after `previous`, which is each row's last cached one."""
        if not self._is_exact:
            return [[token] for token in tokens]
        try:
            cache.crop(-1)
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(
                f"the model's cache cannot give up its last position: {error!s:.120}",
                allowed="steering mode 'sticky' with this model",
            ) from None
        return [list(pair) for pair in zip(previous, tokens, strict=True)]
