"""What the diffusion loop drives, built from an experiment: first what needs no weights, then the networks."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLora
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from engine.llm.models import model_path
from rl.config import Experiment, LoraConfig
from rl.rewards import Scorer
from rl.trainers.denoiser import Denoiser, config_of, load_denoiser, load_network, require_same_process, schedule_of
from rl.trainers.model import accelerator_for_this_launch, made
from rl.trainers.parts import Prepared, placed
from rl.trainers.seeds import derived_seed

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers that get adapters by default, as diffusers' own programs have it."""


@dataclass
class DiffusionParts:
    """Everything the loop drives. `policy`: none, as a context."""

    prepared: DiffusionPrepared
    model: Any
    denoiser: Denoiser
    policy: Any


class DiffusionPrepared(Prepared):
    """The parts that need no weights."""

    @classmethod
    def of(cls, experiment: Experiment) -> DiffusionPrepared:
        """Raises EngineError, with the place in the config, for whatever cannot be had."""
        config, near = experiment.config, experiment.near
        with placed(experiment, "source"):
            source = experiment.source_class(experiment.source, seed=config.seed, near=near)
        with placed(experiment, "model", "name"):
            path = require_diffusion(config.model.name, near)
        with placed(experiment, "method"):
            schedule_of(path, experiment.method.grid)
            method = experiment.method_class(experiment.method, seed=config.seed, near=near)
        if experiment.method.positive is not None:
            with placed(experiment, "method", "positive"):
                require_same_process(require_diffusion(experiment.method.positive, near), path)
        return cls(experiment, accelerator_for_this_launch(), str(path), None, source, Scorer([]), method)

    def built(self, checkpoint: Path | None, *, folder: Path | None = None, say: Any = None) -> Any:
        """All parts, with the weights of the checkpoint or the starting ones."""
        device = self.accelerator.device
        model = load_trained(self.experiment, Path(self.model_path), checkpoint).to(device).train()
        denoiser = load_denoiser(Path(self.model_path), device)
        return DiffusionParts(self, model, denoiser, contextlib.nullcontext())

    def facts(self) -> dict[str, str]:
        """The numbers that follow from the config, for people."""
        config, method = self.experiment.config, self.experiment.method
        network = config_of(Path(self.model_path), "unet")["_class_name"]
        start = "pictures of the source" if method.start == "data" else f"{method.latents} of the model's own samples"
        return {
            "model": f"{config.model.name}: {network}, {'adapters' if config.model.lora else 'all weights'} trained",
            "method": f"{method.kind} ({self.method.title})",
            "start states": start,
            "updates": f"{config.trainer.steps} steps of {config.trainer.prompts} rows",
            "sampler": f"{method.grid} deterministic steps",
            "processes": f"{self.accelerator.num_processes} on {self.accelerator.device}",
        }


def require_diffusion(name: str, near: Path | None) -> Path:
    """The folder of a pipeline: a folder, a hub id, or made by "path/to/file.py:function". Raises EngineError."""
    path = Path(str(made(name, near) if ".py:" in name else model_path(name)))
    for part in ("unet", "scheduler"):
        config_of(path, part)
    return path


def load_trained(experiment: Experiment, path: Path, checkpoint: Path | None) -> Any:
    """The network to train: all weights, or adapters beside frozen ones; from the checkpoint if given."""
    config, dtype = experiment.config.model, getattr(torch, experiment.config.model.dtype)
    if config.lora is None:
        network = load_network(checkpoint or path, dtype)
    elif checkpoint is not None:
        network = PeftModel.from_pretrained(load_network(path, dtype), checkpoint, is_trainable=True)
    else:
        torch.manual_seed(derived_seed(experiment.config.seed, "lora"))
        network = get_peft_model(load_network(path, dtype), _lora(config.lora))
    if config.gradient_checkpointing:
        (network.get_base_model() if isinstance(network, PeftModel) else network).enable_gradient_checkpointing()
    return network


def _lora(lora: LoraConfig) -> PeftLora:
    targets = list(ATTENTION) if lora.targets == "all-linear" else lora.targets
    return PeftLora(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """The network's weights, with its adapters added to them."""
    if not isinstance(model, PeftModel):
        return model.state_dict()
    merged: dict[str, Tensor] = copy.deepcopy(model).merge_and_unload().state_dict()
    return merged
