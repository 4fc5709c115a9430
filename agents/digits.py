"""A small diffusion model of handwritten digits, which leaves something to be desired.

model() -> its folder, as diffusers saves a pipeline; trained here on scikit-learn's digits on first use, in a minute

It knows the ten digits as classes, and an eleventh class for none. With more steps it would be better, and there would
be less for a negative to guide it away from.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from sklearn.datasets import load_digits

from engine.llm.models import home

STEPS, ROWS, RATE, DROPPED = 600, 64, 2e-3, 0.1
NONE = 10


def model() -> Path:
    """The model's folder in the cache."""
    return trained("digits-1", STEPS)


def trained(name: str, steps: int) -> Path:
    """The folder of that name in the cache, filled first if it is not there."""
    folder = home() / "models" / name
    if not folder.is_dir():
        print(f"training {folder}: {steps} steps", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}.part-", dir=folder.parent) as part, torch.random.fork_rng():
            torch.manual_seed(0)
            pretrain(Path(part) / "model", steps)
            if not folder.is_dir():  # another process may have been faster
                (Path(part) / "model").rename(folder)
    return folder


def network() -> UNet2DModel:
    """165,000 weights, which predict the noise."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        num_class_embeds=NONE + 1,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def pretrain(folder: Path, steps: int) -> None:
    """Train on the training digits, some of them without their class, and save."""
    data = load_digits()
    is_held_out = torch.arange(len(data.target)) % 5 == 0  # as in the source `digits`
    pixels = torch.tensor(data.images / 8 - 1, dtype=torch.float32)[~is_held_out, None]
    labels = torch.tensor(data.target)[~is_held_out]
    unet, scheduler = network(), DDIMScheduler(timestep_spacing="trailing")
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min((i + 1) / 50, max(0.05, 1 - i / steps)))
    for _ in range(steps):
        chosen = torch.randint(len(pixels), (ROWS,))
        noise, times = torch.randn(ROWS, 1, 8, 8), torch.randint(scheduler.config.num_train_timesteps, (ROWS,))
        classes = torch.where(torch.rand(ROWS) < DROPPED, NONE, labels[chosen])
        noisy = scheduler.add_noise(pixels[chosen], noise, times)
        loss = (unet(noisy, times, class_labels=classes).sample - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    DDIMPipeline(unet, scheduler).save_pretrained(folder)
