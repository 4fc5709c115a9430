"""Tiny diffusion models with random weights, saved as diffusers saves pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def of_classes(folder: Path, seed: int = 0, **scheduler: Any) -> Path:
    """8x8 pixels and eleven classes, of which the last is none."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            num_class_embeds=11,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=8,
        )
        DDIMPipeline(unet, DDIMScheduler(timestep_spacing="trailing", **scheduler)).save_pretrained(folder)
    return folder


def of_texts(folder: Path, seed: int = 0, **scheduler: Any) -> Path:
    """A Stable Diffusion of 16x16 pixels: latents of 8x8, a text encoder of two layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"{c}</w>": i + 2 for i, c in enumerate("abcdefgh")}}
        tokenizer = CLIPTokenizer(vocab=words, merges=[], model_max_length=8, unk_token="<|endoftext|>")
        encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=8,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=2,
        )
        vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=2,
        )
        settings = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012} | scheduler
        parts: Any = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        noise = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **settings)
        StableDiffusionPipeline(vae, encoder, tokenizer, unet, noise, **parts).save_pretrained(folder)
    return folder
