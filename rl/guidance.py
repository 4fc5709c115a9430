"""A negative in a diffusers pipeline: guidance is with other weights and no further change.

    pipeline = StableDiffusionPipeline.from_pretrained("path/of/sd15")
    guide(pipeline, "runs/rl-...")                     # the newest checkpoint of `engine rl train self_npo_gpu.yaml`
    pipeline("a lighthouse in a storm", guidance_scale=7.5)

A pipeline that guides asks its network for a batch of two halves, without the prompt and with it, and adds
eps_1 + s (eps_2 - eps_1); here the first half is answered by the negative network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import DataError
from rl import checkpoint
from rl.config import Experiment, load
from rl.trainers.denoiser import config_of, load_network, refuse_difference, require_same_process
from rl.trainers.negative import negative_of
from rl.trainers.networks import load_trained, merged_weights, require_diffusion

__all__ = ["NegativeGuided", "guide", "negative_network"]


class NegativeGuided(nn.Module):
    """Two networks in the place of one: the first half of a batch goes to the negative, the second to the positive.

    A batch that is not of two halves, as a pipeline without guidance gives it, cannot be told from one: give such a
    pipeline the positive itself. All attributes are the positive's.
    """

    def __init__(self, positive: nn.Module, negative: nn.Module) -> None:
        super().__init__()
        self.positive, self.negative = positive, negative

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("positive"), name)

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **options: Any) -> Any:
        """The outputs of both, as the positive alone would give them."""
        half = len(sample) // 2
        if len(sample) % 2:
            raise DataError(
                f"a batch of {len(sample)} rows has no two halves",
                next_step="set the pipeline's guidance_scale above 1",
            )
        is_tuple = not options.pop("return_dict", True)
        outputs = [
            network(sample[part], timestep, encoder_hidden_states=encoder_hidden_states[part], **options)
            for network, part in ((self.negative, slice(half)), (self.positive, slice(half, None)))
        ]
        found = torch.cat([output.sample for output in outputs])
        return (found,) if is_tuple else type(outputs[0])(sample=found)


def negative_network(
    run: str | Path, *, alpha: float | None = None, beta: float | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """(positive, negative) networks of a run of the diffusion trainer: what it was guided to and away from.

    run: its folder, or a checkpoint. alpha, beta: of theta + alpha eta + beta delta, the config's by default. Raises
    DataError for a run without a checkpoint, CheckpointError for a damaged one.
    """
    saved = _saved(run)
    experiment = load_of(saved)
    values = {"alpha": alpha, "beta": beta}
    settings = experiment.method.model_copy(update={k: v for k, v in values.items() if v is not None})
    base = _base(experiment)
    start, tuned = load_network(base, dtype), None
    if settings.positive is not None:
        tuned_path = require_diffusion(settings.positive, experiment.near)
        require_same_process(tuned_path, base)
        tuned = load_network(tuned_path, dtype)
    trained = {name: value.to(dtype) for name, value in merged_weights(load_trained(experiment, base, saved)).items()}
    negative = negative_of(start, tuned, trained, settings)
    return (tuned or start).eval(), negative.eval()


def guide(pipeline: Any, run: str | Path, *, alpha: float | None = None, beta: float | None = None) -> None:
    """Let a pipeline's guidance be away from the run's negative; its own network stays the positive.

    Raises InputError, beside `negative_network`, where the pipeline's network or scheduler is of another process.
    """
    saved = _saved(run)
    configs = {"scheduler": pipeline.scheduler.config, "unet": pipeline.unet.config}
    base = _base(load_of(saved))
    for part, ours in configs.items():
        refuse_difference(part, ours, config_of(base, part), "the pipeline", str(run))
    own = pipeline.unet
    _, negative = negative_network(run, alpha=alpha, beta=beta, dtype=own.dtype)
    pipeline.unet = NegativeGuided(own, negative.to(own.device))


def load_of(saved: Path) -> Experiment:
    """The experiment that a checkpoint belongs to."""
    record = checkpoint.read_state(saved).record
    return load(record["config"], near=Path(record["near"]) if record["near"] else None)


def _base(experiment: Experiment) -> Path:
    return require_diffusion(experiment.config.model.name, experiment.near)


def _saved(run: str | Path) -> Path:
    """The checkpoint itself, or a run's newest one."""
    path = Path(run)
    found = [path] if (path / checkpoint.MANIFEST).exists() else checkpoint.steps(path / "checkpoints")
    if not found:
        raise DataError("the run has no checkpoint", place=str(path), next_step="give the folder of a training run")
    return checkpoint.require_sound(found[-1])
