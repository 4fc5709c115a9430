"""What makes a resumed run exact: random number generators and optimizer moments, without pickle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from engine.errors import CheckpointError


def rng_state() -> dict[str, Any]:
    """The state of Python's, NumPy's and torch's global generators as JSON."""
    kind, keys, position, has_gauss, gauss = numpy.random.get_state(legacy=True)
    version, internal, following = random.getstate()
    return {
        "python": [version, list(internal), following],
        "numpy": [kind, [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def load_rng_state(state: Mapping[str, Any]) -> None:
    """Set the generators to what `rng_state` gave."""
    version, internal, following = state["python"]
    random.setstate((version, tuple(internal), following))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, gauss))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all([torch.tensor(s, dtype=torch.uint8) for s in state["cuda"]])


def optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """'NAME/exp_avg' -> tensor for every trained parameter that the optimizer has stepped."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value.detach()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the optimizer's state to what `optimizer_state` gave. Raises CheckpointError for unknown names."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in parameters:
            raise CheckpointError(f"the optimizer state names a weight that the model has not: {name}")
        parameter = parameters[name]
        device = "cpu" if entry == "step" and not optimizer.defaults.get("fused") else parameter.device
        optimizer.state[parameter][entry] = value.to(device)
