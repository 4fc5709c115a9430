"""One forward pass of a transformers model over a Layout, up to the input of its LM head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask

from engine.errors import InputError
from rl.ops.layout import Layout, row_layout, tree_layout
from rl.ops.logprobs import Head

_PROBES: WeakKeyDictionary[nn.Module, Capability] = WeakKeyDictionary()


@dataclass(frozen=True)
class Capability:
    """What a model was seen to do. `prefix_tree`: takes a custom mask and position ids, and gives
    the same logits as on plain rows; `plain_head`: its logits are its LM head's output, unchanged."""

    prefix_tree: bool
    plain_head: bool


def capability(model: nn.Module) -> Capability:
    """What `model` can do, by a forward pass over a few tokens; remembered as long as the model lives.

    No list of architectures: models that ignore a mask, mix tokens by recurrence or slide a window
    fail the comparison, and models that scale or cap their logits show it.
    """
    if model not in _PROBES:
        _PROBES[model] = _probe(model)
    return _PROBES[model]


def attention_window(model: nn.Module) -> int | None:
    """Tokens that a layer may look back, None if unlimited (a custom mask overrides a model's window)."""
    config = text_config(model)
    if getattr(config, "use_sliding_window", True) is False:
        return None
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((size for size in sizes if size), default=None)


def text_config(model: nn.Module) -> Any:
    """The config of the language model, also under DDP or PEFT."""
    config: Any = _unwrapped(model).config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def device_of(model: nn.Module) -> torch.device:
    """Where the model computes: where its weights are, unless they are brought elsewhere (`compute_device`)."""
    device: torch.device = getattr(model, "compute_device", None) or next(model.parameters()).device
    return device


def layout_hidden(model: nn.Module, layout: Layout, *, plain_head: bool = True) -> tuple[Tensor, Head]:
    """(N, H) hidden states at `layout.keep`, and the head that turns them into logits.

    Where the logits are not the head's plain output, (N, V) logits and the identity. The model is
    called through its own (or its wrapper's) forward, so hooks of DDP, FSDP and PEFT run.
    """
    inputs: dict[str, Any] = {"input_ids": layout.ids, "use_cache": False}
    if layout.ends is not None:
        inputs["attention_mask"] = tree_mask(layout.ends, text_config(model)._attn_implementation, _dtype(model))
        inputs["position_ids"] = layout.positions
    elif layout.padding is not None and not bool(layout.padding.all()):
        inputs["attention_mask"] = layout.padding
    if not plain_head:
        return model(**inputs).logits.flatten(0, 1)[layout.keep], _identity
    head = output_head(model)
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, args: (_capture(seen, args[0]),))
    try:
        model(**inputs)
    finally:
        handle.remove()
    return seen[0].flatten(0, 1)[layout.keep], head


def output_head(model: nn.Module) -> nn.Module:
    """The LM head, also under DDP or PEFT. Raises InputError if the model has none."""
    inner = _unwrapped(model)
    head: nn.Module | None = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    if head is None:
        raise InputError(
            f"{type(inner).__name__} has no LM head", allowed="a causal language model with get_output_embeddings()"
        )
    return head


def tree_mask(ends: Tensor, attention: str, dtype: torch.dtype) -> Any:
    """The attention mask of a prefix tree, of the kind that the attention implementation takes.

    Node q sees node k iff k <= q < end_k. ends: (L,). Returns (1, 1, L, L): bool (True = sees) for
    sdpa, 0 and the dtype's least number for eager, a BlockMask for flex_attention.
    """
    length = ends.numel()
    if attention == "flex_attention":

        def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (key <= query) & (query < ends[key])

        return create_block_mask(sees, None, None, length, length, device=ends.device)
    order = torch.arange(length, device=ends.device)
    mask = ((order <= order[:, None]) & (order[:, None] < ends))[None, None]
    if attention == "sdpa":
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=ends.device).masked_fill(~mask, torch.finfo(dtype).min)


def _unwrapped(model: nn.Module) -> Any:
    """The model inside DistributedDataParallel."""
    return getattr(model, "module", model)


def _capture(seen: list[Tensor], hidden: Tensor) -> Tensor:
    """Keeps the head's input and lets the head compute no position itself."""
    seen.append(hidden)
    return hidden[:, :0]


def _identity(logits: Tensor) -> Tensor:
    return logits


def _dtype(model: nn.Module) -> torch.dtype:
    return next(p.dtype for p in model.parameters() if p.is_floating_point())


def _probe(model: nn.Module) -> Capability:
    """Compares, on two short sequences, tree with rows and head output with logits."""
    device = device_of(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return _compare(model, device)
    finally:
        for module, training in modes:
            module.training = training


def _compare(model: nn.Module, device: torch.device) -> Capability:
    pairs = [((1, 2, 3), (4, 5, 1)), ((1, 2, 3), (2, 4, 5))]
    rows, tree = row_layout(pairs, device=device), tree_layout(pairs, device)
    whole, _ = layout_hidden(model, rows, plain_head=False)
    hidden, head = layout_hidden(model, rows)
    tolerance = 1e-3 if whole.dtype in (torch.float32, torch.float64) else 5e-2
    plain_head = _near(head(hidden), whole, tolerance)
    try:
        shared, _ = layout_hidden(model, tree, plain_head=False)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError):
        return Capability(prefix_tree=False, plain_head=plain_head)  # it does not take the mask: that is the answer
    by_rollout = shared[tree.place[tree.index]], whole[rows.place[rows.index]]
    return Capability(prefix_tree=_near(*by_rollout, tolerance), plain_head=plain_head)


def _near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether a differs from b by less than that share of b's spread."""
    return bool((a.float() - b.float()).norm() <= tolerance * (b.float() - b.float().mean()).norm())
