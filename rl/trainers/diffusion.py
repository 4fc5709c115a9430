"""The loop on states of a diffusion process. It knows no algorithm by name.

The network of a diffusers pipeline is trained; the start model samples the states that it is trained on, once, before
the first step, or the source gives pictures. All draws follow from (seed, step, process), so nothing need be stored of
them; the states and the running average of the weights are part of every checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor
from torch.func import functional_call

from engine.errors import DataError
from engine.runs import RunFolder
from rl.config import Experiment
from rl.methods._diffusion import DiffusionBatch
from rl.sources._cursor import Cursor
from rl.trainers.console import Console
from rl.trainers.denoiser import Denoiser, clip_of, load_network, schedule_of
from rl.trainers.gradient import sum_gradients
from rl.trainers.loop import Loop, below
from rl.trainers.negative import Row, Trial, negative_of, save_picture, table
from rl.trainers.networks import DiffusionPrepared, merged_weights, require_diffusion
from rl.trainers.parts import Prepared
from rl.trainers.seeds import seeded_generator
from rl.types import Prompt

COLUMNS = 10
"""Of the picture."""


class DiffusionTrainer(Loop):
    """Steps on noisy states. `average`: the running average of the trained weights; `states`: those that the start
    model sampled, of the prompts `shown`, which `cursor` walks over."""

    def __init__(self, parts: Any, run_path: Path, folder: RunFolder | None, console: Console) -> None:
        super().__init__(parts, run_path, folder, console)
        prepared = parts.prepared
        self.denoiser: Denoiser = parts.denoiser
        self.settings = prepared.experiment.method
        self.schedule = schedule_of(Path(prepared.model_path), self.settings.grid)
        self.average = {n: p.detach().float().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        self.states: Tensor | None = None
        self.shown = [*self._prompts()]
        self.cursor = Cursor(self.settings.latents, f"{prepared.experiment.config.seed}/states")

    @classmethod
    def prepare(cls, experiment: Experiment) -> Prepared:
        return DiffusionPrepared.of(experiment)

    def run(self) -> None:
        """All remaining steps. Raises Stopped and NonFinite."""
        if self.step == 0 and self.settings.start == "self":
            self.states = self._sampled()
        super().run()

    def one_step(self) -> None:
        """One update, its row, and the evaluation that is due."""
        started = time.perf_counter()
        rate = self.set_learning_rate()
        clean, prompts = self._rows(self.config.prompts)
        self.is_whole = False
        loss, statistics = self._accumulate(clean, prompts)
        norm = self.clipped_norm()
        self.require_finite(loss, norm, lambda: ({"rows": [p.id for p in prompts]}, {"clean": clean.contiguous()}))
        is_moved = self.update_weights(norm)
        self._follow()
        self.step += 1
        row = {"step": self.step, "loss": float(loss), **statistics, "grad_norm": float(norm), "lr": rate}
        self.log(row | {"skipped": not is_moved, "seconds": time.perf_counter() - started})
        if self.is_evaluated:
            self.evaluate()
        self.is_whole = True

    def evaluate(self) -> None:
        """Log the table of the arms, and save their picture."""
        started = time.perf_counter()
        path = self.run_path / "pictures" / f"step-{self.step:06d}.png"
        found = _tried(self.parts, path if self.folder is not None else None)
        self.log({"step": self.step, "eval": found, "seconds": time.perf_counter() - started})

    @classmethod
    def measured(cls, parts: Any) -> dict[str, Row]:
        """The table of the arms."""
        return _tried(parts, None)

    def record(self) -> dict[str, Any]:
        return {"cursor": self.cursor.state_dict()}

    def tensors(self) -> dict[str, Tensor]:
        states = {"states": self.states} if self.states is not None else {}
        return states | {f"average/{name}": tensor for name, tensor in self.average.items()}

    def take_up(self, record: dict[str, Any], place: int, tensors: dict[str, Tensor]) -> None:
        device = self.denoiser.device
        self.cursor.load_state_dict(record["cursor"])
        self.average = {name: tensor.to(device) for name, tensor in below(tensors, "average/").items()}
        self.states = tensors["states"].to(device) if "states" in tensors else None

    def _prompts(self) -> list[Prompt]:
        """The training prompts that states are sampled for, in turn."""
        found: list[Prompt] = next(iter(self.prepared.source.evaluation().values()), [])
        if not found:
            raise DataError("the source has no prompt")
        return [found[i % len(found)] for i in range(self.settings.latents)]

    def _sampled(self) -> Tensor:
        """States of the model as it is before its first update, without guidance; the same on all processes."""
        trial = _trial(self.parts)
        return trial.drawn(
            self.shown,
            lambda given: lambda x, times: self.denoiser.output(self.model, x, times, given),
            purpose="states",
        )

    def _rows(self, n: int) -> tuple[Tensor, list[Prompt]]:
        """n clean states and their prompts."""
        if self.states is None:
            prompts = self.prepared.source.batch(n)
            return self.denoiser.clean(prompts), prompts
        places = self.cursor.take(n)
        return self.states[places], [self.shown[place] for place in places]

    def _accumulate(self, clean: Tensor, prompts: list[Prompt]) -> tuple[Tensor, dict[str, float]]:
        """Backward through one step; its loss and statistics, over all processes."""
        accelerator = self.prepared.accelerator
        own = slice(accelerator.process_index, None, accelerator.num_processes)
        batch = self._batch(clean[own], prompts[own], len(prompts))
        config = self.prepared.experiment.config.model
        with torch.autocast(self.denoiser.device.type, dtype=torch.bfloat16, enabled=config.autocast == "bfloat16"):
            loss, statistics = self.method.loss(batch)
        loss.backward()
        found = {"loss": float(loss.detach()), **{name: float(value) for name, value in statistics.items()}}
        if accelerator.num_processes > 1:
            sum_gradients(self.model, accelerator)
            shares: list[dict[str, float]] = gather_object([found])
            found = {name: sum(share[name] for share in shares) for name in found}
        return torch.tensor(found.pop("loss")), found

    def _batch(self, clean: Tensor, prompts: list[Prompt], total: int) -> DiffusionBatch:
        given, nothing = self.denoiser.conditions(prompts), self.denoiser.nothing(len(prompts))
        seed = self.prepared.experiment.config.seed

        def averaged(conditions: Tensor) -> Any:
            def predict(x: Tensor, times: Tensor) -> Tensor:
                with torch.no_grad():
                    return self.denoiser.output(self._averaged, x, times, conditions)

            return predict

        return DiffusionBatch(
            clean=clean,
            schedule=self.schedule,
            model=lambda x, times: self.denoiser.output(self.model, x, times, given),
            average=averaged(given),
            unconditional=averaged(nothing),
            generator=seeded_generator(seed, "diffusion", self.step, self.prepared.accelerator.process_index),
            total_rows=total,
        )

    def _averaged(self, *args: Any, **kwargs: Any) -> Any:
        """The network with the averaged weights, as a function of the network's own arguments; without dropout."""
        self.model.eval()
        try:
            weights = {name: value.to(self.model.dtype) for name, value in self.average.items()}
            return functional_call(self.model, weights, args, kwargs)
        finally:
            self.model.train()

    def _follow(self) -> None:
        """Let the average follow the weights."""
        decay, weights = self.settings.average, dict(self.model.named_parameters())
        with torch.no_grad():
            for name, average in self.average.items():
                average.lerp_(weights[name].detach().float(), 1 - decay)

    def _save_model(self, path: Path) -> None:
        """The adapters alone, or the network as a pipeline's folder has it; with the scheduler that it needs."""
        self.model.save_pretrained(path if isinstance(self.model, PeftModel) else path / "unet")
        scheduler = path / "scheduler" / "scheduler_config.json"
        scheduler.parent.mkdir()
        scheduler.write_bytes((Path(self.prepared.model_path) / "scheduler" / scheduler.name).read_bytes())


def _trial(parts: Any) -> Trial:
    prepared = parts.prepared
    path, method, config = Path(prepared.model_path), prepared.experiment.method, prepared.experiment.config
    size = 250 if max(parts.denoiser.shape) < 64 else 8
    return Trial(parts.denoiser, schedule_of(path, method.grid), method, clip_of(path), config.seed, size)


def _tried(parts: Any, picture: Path | None) -> dict[str, Row]:
    """Sample every arm; the table, and a picture where a path is given."""
    prepared, denoiser = parts.prepared, parts.denoiser
    method, source = prepared.experiment.method, prepared.source
    start = load_network(Path(prepared.model_path)).to(denoiser.device).eval()
    tuned = None
    if method.positive is not None:
        tuned = load_network(require_diffusion(method.positive, prepared.experiment.near)).to(denoiser.device).eval()
    negative = negative_of(start, tuned, merged_weights(parts.model), method)
    prompts = trial_prompts(source)
    samples = _trial(parts).samples(tuned or start, negative, prompts)
    images = {arm: denoiser.images(x) for arm, x in samples.items()}
    if picture is not None:
        save_picture(images, COLUMNS, picture)
    return table(samples, images, prompts, source)


def trial_prompts(source: Any) -> list[Prompt]:
    """What the arms sample: the source's own choice, or the held-out prompts, or the training ones."""
    if hasattr(source, "trial"):
        chosen: list[Prompt] = source.trial()
        return chosen
    splits = source.evaluation()
    return list(splits.get("held_out") or splits["train"])


TRAINER = DiffusionTrainer
