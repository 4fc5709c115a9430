"""The model that is trained, its tokenizer and its reference."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig as PeftLora
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from engine import gallery
from engine.errors import EnvironmentMissing, InputError
from engine.llm.models import model_path
from rl.config import Experiment, LoraConfig, ModelConfig
from rl.trainers.quantized import is_quantized, quantize, save_quantized
from rl.trainers.seeds import derived_seed
from rl.trainers.soft_prompt import add_soft_prompt


def accelerator_for_this_launch() -> Accelerator:
    """The device and processes of this launch. Raises EnvironmentMissing for sharded training.

    Its own mixed precision is left alone: accelerate fixes that once a process, and a process may train
    two configs. The loop opens autocast itself.
    """
    accelerator = Accelerator()
    atexit.unregister(_leave)
    kind = accelerator.distributed_type.value
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU"):
        raise EnvironmentMissing(
            f"training cannot run under accelerate's {kind} yet",
            allowed="one process, or data parallel on CPUs or GPUs",
            next_step="launch without FSDP, DeepSpeed and Megatron",
        )
    return accelerator


def leave_at_exit() -> None:
    """Leave the group of processes when this one ends: its threads must be gone before the interpreter is.

    For a run that ended well. After a failure the others may still be in an exchange, and leaving would wait for it.
    """
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def require_model(name: str, near: Path | None = None) -> str:
    """Where the model's files are; fetched if they are not here, or made by the function "path/to/file.py:function".

    near: the config file, or its folder, beside which that file is looked up first. Raises UnknownName,
    EnvironmentMissing, and InputError for a file that does not run.
    """
    path = str(made(name, near) if ".py:" in name else model_path(name))
    try:
        AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise EnvironmentMissing(
            f"'{name}' is no model that transformers can load: {str(error).splitlines()[0]}",
            allowed="a name that `engine model list` shows, a folder in Hugging Face format, a hub id, or "
            "path/to/file.py:function that returns such a folder",
            next_step="correct model.name, or fetch the model with `engine model pull`",
        ) from None
    return path


def made(reference: str, near: Path | None) -> object:
    """The folder that the function of that reference returns."""
    function = gallery.load(reference, near=near)
    if not callable(function):
        raise InputError(f"{reference} is a {type(function).__name__}", allowed="a function that returns a folder")
    return function()


def load_tokenizer(path: str) -> Any:
    """The model's tokenizer, with a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(experiment: Experiment, path: str, checkpoint: Path | None, device: torch.device) -> nn.Module:
    """The model to train: all weights, or LoRA adapters beside frozen ones; weights from the checkpoint if given."""
    config = experiment.config.model
    if config.quantize is not None:
        model = quantize(_pretrained(path, config), config.quantize, checkpoint)
    elif config.lora is None:
        model = _pretrained(str(checkpoint or path), config)
    else:
        model = _adapted(_pretrained(path, config), experiment, checkpoint)
    _soften(model, experiment, path, checkpoint)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return (model if getattr(experiment.method, "offload", False) else model.to(device)).train()


def save_model(model: Any, path: Path) -> None:
    """Write the model in Hugging Face's format, with what else `load_model` needs."""
    with quiet_progress():
        if is_quantized(model):
            save_quantized(model, path)
        else:
            model.save_pretrained(path)


def load_reference(experiment: Experiment, path: str, device: torch.device) -> nn.Module | None:
    """A frozen copy of the starting model; None with LoRA, where disabling the adapters gives it."""
    if experiment.config.model.lora is not None:
        return None
    return load_frozen(experiment, path, device)


def load_frozen(experiment: Experiment, path: str, device: torch.device) -> nn.Module:
    """A model that is not trained, in the config's precision."""
    model: nn.Module = _pretrained(path, experiment.config.model).to(device).eval().requires_grad_(False)
    return model


def model_size(experiment: Experiment, path: str) -> tuple[int, int]:
    """How many weights the model has, and how many of them are trained; nothing is loaded."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
        if experiment.config.model.lora is not None:
            model = get_peft_model(model, _lora_settings(experiment))
        if experiment.config.model.quantize is not None:
            model = quantize(model, experiment.config.model.quantize, None)
        _soften(model, experiment, path, None)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, is_trained in sizes if is_trained)


def _soften(model: Any, experiment: Experiment, path: str, checkpoint: Path | None) -> None:
    """Give the model the soft prompt that the config wants, if it wants one."""
    if not experiment.has_soft_prompt:
        return
    try:
        add_soft_prompt(model, load_tokenizer(path), experiment.method.space.text, checkpoint)
    except InputError as error:
        error.place = error.place or experiment.place("method", "space", "text")
        raise


def _pretrained(path: str, config: ModelConfig) -> Any:
    with quiet_progress():
        return AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, config.dtype))


@contextlib.contextmanager
def quiet_progress() -> Iterator[None]:
    """Without the progress bars of transformers, which would stand between our rows."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


@contextlib.contextmanager
def as_evaluated(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and back in its own after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


def _adapted(base: Any, experiment: Experiment, checkpoint: Path | None) -> Any:
    if checkpoint is not None:
        return PeftModel.from_pretrained(base, checkpoint, is_trainable=True)
    torch.manual_seed(derived_seed(experiment.config.seed, "lora"))
    return get_peft_model(base, _lora_settings(experiment))


def _lora_settings(experiment: Experiment) -> PeftLora:
    lora = experiment.config.model.lora or LoraConfig()
    return PeftLora(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
    )
