"""A diffusion model on disk, as diffusers saves a pipeline: its network, its noise schedule, and its conditions."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.loading_utils import load_image
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel

from engine.errors import DataError, EnvironmentMissing, InputError
from rl.ops.diffusion import Schedule
from rl.types import Prompt

NETWORKS = ("UNet2DModel", "UNet2DConditionModel")
Network = Callable[..., Any]

KEYS = {
    "scheduler": ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
                  "rescale_betas_zero_snr"),
    "unet": ("in_channels", "out_channels", "sample_size", "cross_attention_dim", "num_class_embeds"),
}  # fmt: skip
"""What of a config says which states and conditions a network knows, and what its output means."""


def config_of(path: Path, part: str) -> dict[str, Any]:
    """The config of a pipeline's network ("unet") or scheduler. Raises EnvironmentMissing where there is none."""
    file = path / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EnvironmentMissing(
            f"'{path}' is no diffusion model: {file.relative_to(path)} is missing or no JSON",
            allowed="a folder as diffusers' pipelines save it, with unet/ and scheduler/",
            next_step="correct model.name, or save the pipeline with save_pretrained",
        ) from None
    if part == "unet" and found.get("_class_name") not in NETWORKS:
        raise InputError(f"the network of '{path}' is a {found.get('_class_name')}", allowed=" or ".join(NETWORKS))
    return found


def require_same_process(positive: Path, negative: Path) -> None:
    """Raise InputError unless both models denoise the same states of the same process.

    The difference of their outputs is a direction only then.
    """
    for part in KEYS:
        refuse_difference(part, config_of(positive, part), config_of(negative, part), str(positive), str(negative))


def refuse_difference(
    part: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], positive: str, negative: str
) -> None:
    """Raise InputError, naming the first, where the configs of a positive's and a negative's part differ."""
    for key in KEYS[part]:
        if ours.get(key) != theirs.get(key):
            raise InputError(
                f"positive and negative do not fit together: {part}.{key} is {ours.get(key)!r} in '{positive}' "
                f"and {theirs.get(key)!r} in '{negative}'",
                allowed="models that share scheduler, prediction type and shape",
                next_step="take both from the same base model",
            )


def load_network(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The network of a pipeline's folder, or of a checkpoint of one."""
    return getattr(diffusers, config_of(path, "unet")["_class_name"]).from_pretrained(
        path / "unet", torch_dtype=dtype, low_cpu_mem_usage=False
    )


def schedule_of(path: Path, steps: int) -> Schedule:
    """The noise schedule of a pipeline's folder, with a grid of that many steps.

    The grid ends at the noisiest time, where samples start (2305.08891). Raises InputError for a grid too fine and for
    a schedule that ends in nothing but noise: there an output of noise says nothing about the picture.
    """
    scheduler = diffusers.DDIMScheduler.from_config(config_of(path, "scheduler"))
    count, prediction = scheduler.config.num_train_timesteps, scheduler.config.prediction_type
    if not 2 <= steps <= count:
        raise InputError(f"a grid of {steps} steps, of {count} times", place="method.grid", allowed=f"2 to {count}")
    cumulative = scheduler.alphas_cumprod.double()
    if prediction == "epsilon" and float(cumulative[-1]) < 1e-8:
        raise InputError(
            "the last time of the noise schedule is noise alone, and the network predicts noise",
            place=str(path / "scheduler"),
            allowed="v_prediction or sample with such a schedule",
        )
    grid = (torch.arange(1, steps + 1) * (count / steps)).round().long() - 1
    final = 1.0 if scheduler.config.set_alpha_to_one else float(cumulative[0].sqrt())
    return Schedule(cumulative.sqrt(), (1 - cumulative).sqrt(), grid, final, prediction)


def clip_of(path: Path) -> float | None:
    """The bound of the sampler's estimates, where the scheduler has one."""
    config = config_of(path, "scheduler")
    return float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", True) else None


class Denoiser(ABC):
    """What turns prompts into conditions, and states into pictures. `shape`: of one state."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device
        config = config_of(path, "unet")
        size = config["sample_size"]
        self.shape = (config["in_channels"], *(size if isinstance(size, list) else (size, size)))

    @abstractmethod
    def conditions(self, prompts: Sequence[Prompt]) -> Tensor:
        """What the network is told of each prompt, a row a prompt."""

    @abstractmethod
    def nothing(self, n: int) -> Tensor:
        """n rows of what it is told without a condition."""

    @abstractmethod
    def output(self, network: Network, x: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """The network's output."""

    @abstractmethod
    def images(self, x: Tensor) -> Tensor:
        """(n, channels, H, W) pictures in [0, 1] of clean states."""

    @abstractmethod
    def clean(self, prompts: Sequence[Prompt]) -> Tensor:
        """The clean states of the prompts' own pictures. Raises DataError where one has none."""


class ClassDenoiser(Denoiser):
    """A network on pixels in [-1, 1] with classes, of which the last is none. Prompts have the columns `label` and, for
    training on data, `image`: rows of values in [0, 1]."""

    def conditions(self, prompts: Sequence[Prompt]) -> Tensor:
        return torch.tensor([_column(prompt, "label") for prompt in prompts], device=self.device)

    def nothing(self, n: int) -> Tensor:
        return torch.full((n,), config_of(self.path, "unet")["num_class_embeds"] - 1, device=self.device)

    def output(self, network: Network, x: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        return network(x, times, class_labels=conditions).sample

    def images(self, x: Tensor) -> Tensor:
        return (x / 2 + 0.5).clamp(0, 1)

    def clean(self, prompts: Sequence[Prompt]) -> Tensor:
        pixels = torch.tensor([_column(prompt, "image") for prompt in prompts], device=self.device)
        return pixels.reshape(len(prompts), *self.shape) * 2 - 1


class TextDenoiser(Denoiser):
    """A network on a VAE's latents that is told a text, as Stable Diffusion's. Training on data reads the column
    `image`, a file's path."""

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__(path, device)
        self.tokenizer = AutoTokenizer.from_pretrained(path / "tokenizer")
        self.encoder = CLIPTextModel.from_pretrained(path / "text_encoder").to(device).eval().requires_grad_(False)
        vae = diffusers.AutoencoderKL.from_pretrained(path / "vae", low_cpu_mem_usage=False)
        self.vae = vae.to(device).eval().requires_grad_(False)
        self.pictures = VaeImageProcessor(vae_scale_factor=2 ** (len(vae.config.block_out_channels) - 1))

    def conditions(self, prompts: Sequence[Prompt]) -> Tensor:
        return self._encoded([_text(prompt) for prompt in prompts])

    def nothing(self, n: int) -> Tensor:
        return self._encoded([""]).expand(n, -1, -1)

    @torch.no_grad()
    def _encoded(self, texts: list[str]) -> Tensor:
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt")
        return self.encoder(ids["input_ids"].to(self.device))[0]

    @property
    def _length(self) -> int:
        return min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings)

    def output(self, network: Network, x: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        return network(x, times, encoder_hidden_states=conditions).sample

    @torch.no_grad()
    def images(self, x: Tensor) -> Tensor:
        rows = [self.vae.decode(row[None] / self.vae.config.scaling_factor).sample for row in x]
        return (torch.cat(rows) / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def clean(self, prompts: Sequence[Prompt]) -> Tensor:
        size = self.shape[1] * self.pictures.config.vae_scale_factor
        files = [load_image(str(_column(prompt, "image"))) for prompt in prompts]
        pixels = [self.pictures.preprocess(file, height=size, width=size).to(self.device) for file in files]
        latents = [self.vae.encode(row).latent_dist.mode() for row in pixels]
        return torch.cat(latents) * self.vae.config.scaling_factor


def load_denoiser(path: Path, device: torch.device) -> Denoiser:
    """The conditions of a pipeline's folder. Raises InputError for a network without any."""
    config = config_of(path, "unet")
    if config["_class_name"] == "UNet2DConditionModel":
        return TextDenoiser(path, device)
    if not config.get("num_class_embeds"):
        raise InputError(
            "the network takes neither classes nor texts", place=str(path), allowed="num_class_embeds or a text encoder"
        )
    return ClassDenoiser(path, device)


def _column(prompt: Prompt, name: str) -> Any:
    if name not in prompt.columns:
        raise DataError(
            f"the prompt '{prompt.id}' has no column '{name}'",
            allowed=f"the columns there: {', '.join(prompt.columns) or 'none'}",
            next_step="use a source that has it, as digits" if name == "label" else "set method.start=self",
        )
    return prompt.columns[name]


def _text(prompt: Prompt) -> str:
    if not isinstance(prompt.prompt, str):
        raise DataError(f"the prompt '{prompt.id}' is a chat", allowed="a text", next_step="set source.chat=false")
    return prompt.prompt
