"""The trainer's weights under the checkpoint's names, as tensors and as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def is_adapted(model: Any) -> bool:
    """Whether the model has peft adapters."""
    return hasattr(model, "peft_config")


def weight_shapes(model: Any) -> dict[str, list[int]]:
    """Checkpoint name -> shape, of all weights; tied ones once."""
    return {name: list(parameter.shape) for name, parameter, _ in _base_weights(model)}


@torch.no_grad()
def named_weights(model: Any, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(checkpoint name, tensor) of all weights in that dtype, adapters merged into them; the model stays as it is."""
    for name, parameter, adapted in _base_weights(model):
        weight = parameter.detach()
        if adapted is not None:
            for adapter in adapted.active_adapters:
                weight = weight + adapted.get_delta_weight(adapter).to(weight.dtype)
        yield name, weight.to(dtype).contiguous()


def write_weights(model: Any, dtype: torch.dtype, path: Path) -> Path:
    """A safetensors file of `named_weights`, whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    save_file({name: weight.cpu() for name, weight in named_weights(model, dtype)}, draft)
    draft.rename(path)
    return path


def _base_weights(model: Any) -> Iterator[tuple[str, Tensor, Any]]:
    """(checkpoint name, parameter, the adapter layer around it or None)."""
    if not is_adapted(model):
        for name, parameter in model.named_parameters():
            yield name, parameter, None
        return
    base = model.get_base_model()
    modules = dict(base.named_modules())
    for name, parameter in base.named_parameters():
        owner, marker, attribute = name.partition(".base_layer.")
        if marker:
            yield f"{owner}.{attribute}", parameter, modules[owner] if attribute == "weight" else None
        elif ".lora_" not in name:
            yield name, parameter, None
