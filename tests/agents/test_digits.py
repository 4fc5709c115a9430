"""The small model of digits: what its folder holds, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from engine import gallery


def test_a_few_steps_give_a_pipeline_of_diffusers(tmp_path: Path) -> None:
    pretrain: Any = gallery.load("agents/digits.py:pretrain")
    torch.manual_seed(0)
    pretrain(tmp_path / "model", 40)
    unet = UNet2DModel.from_pretrained(tmp_path / "model" / "unet")
    assert unet.config.num_class_embeds == 11 and unet.config.sample_size == 8
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "model")
    assert isinstance(pipeline.scheduler, DDIMScheduler) and pipeline.scheduler.config.prediction_type == "epsilon"
    noise = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = unet(noise, torch.full((64,), 900), class_labels=torch.zeros(64, dtype=torch.long)).sample
    assert (found - noise).square().mean() < 0.5  # it began at 1
