"""What every loop has: an optimizer and its learning rate, steps until one is the last or somebody asks to stop,
rows of metrics, checkpoints, and an exact resume. What a step is, a subclass says."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import NonFinite, Stopped
from engine.runs import RunFolder, write_json
from rl import checkpoint
from rl.config import Experiment, TrainerConfig
from rl.trainers.console import Console
from rl.trainers.model import save_model
from rl.trainers.parts import Parts, Prepared
from rl.trainers.state import load_optimizer_state, load_rng_state, optimizer_state, rng_state
from rl.trainers.stop import StopRequest


class Loop(ABC):
    """Runs the steps of one run. `folder` is None on all processes but the main one.

    `step`: optimizer updates so far. `is_whole`: whether a checkpoint of this moment would lose nothing.
    """

    def __init__(self, parts: Parts, run_path: Path, folder: RunFolder | None, console: Console) -> None:
        self.parts, self.run_path, self.folder, self.console = parts, run_path, folder, console
        self.prepared = parts.prepared
        self.config: TrainerConfig = self.prepared.experiment.config.trainer
        self.model: Any = parts.model
        self.method: Any = self.prepared.method
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=self.config.lr,
            betas=self.config.betas,
            eps=self.config.adam_eps,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        self.step, self.is_whole = 0, True
        self.stop = StopRequest(run_path)

    @abstractmethod
    def one_step(self) -> None:
        """One optimizer update, its row, and the evaluation that is due; counts `step`."""

    @abstractmethod
    def evaluate(self) -> None:
        """Log what the source's evaluation splits say."""

    @classmethod
    def prepare(cls, experiment: Experiment) -> Prepared:
        """What this loop needs that has no weights. Raises EngineError for what cannot be had."""
        return Prepared.of(experiment)

    @classmethod
    @abstractmethod
    def measured(cls, parts: Parts) -> dict[str, dict[str, float]]:
        """What an evaluation of these parts finds: split -> quantities."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What a resumed loop must know beside the shared record, as JSON; the same on all processes."""

    def own_record(self) -> dict[str, Any]:
        """Likewise, of this process: the record has a list of all processes' values under each name."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Likewise, as tensors."""
        return {}

    @abstractmethod
    def take_up(self, record: dict[str, Any], place: int, tensors: dict[str, Tensor]) -> None:
        """Go on where `record` and `tensors` were taken; place: this process' in the lists of `own_record`."""

    def close(self) -> None:
        """Let go of what the loop and the method hold."""
        self.method.close()

    def run(self) -> None:
        """All remaining steps. Raises Stopped and NonFinite."""
        with StopRequest(self.run_path) as stop, closing(self):
            self.stop = stop
            if self.step == 0 and self.config.eval_every:
                self.evaluate()
            while self.step < self.config.steps:
                try:
                    self.one_step()
                except Stopped:  # by the policy, whose servers stay away
                    if self.is_whole and self.step:
                        self.save()
                    raise
                is_last, reason = self.step == self.config.steps, self._agreed(stop.reason)
                if is_last or reason or self.step % self.config.save_every == 0:
                    self.save()
                if reason and not is_last:
                    raise stop.raised(self.step, self.run_path)

    @property
    def is_evaluated(self) -> bool:
        """Whether an evaluation is due after this step."""
        every = self.config.eval_every
        return bool(every) and (self.step % every == 0 or self.step == self.config.steps)

    def set_learning_rate(self) -> float:
        """The optimizer's learning rate for the next update."""
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def clipped_norm(self) -> Tensor:
        """The norm of the gradient, which is clipped."""
        return torch.nn.utils.clip_grad_norm_(self.trained, self.config.clip_grad_norm, foreach=True)

    def update_weights(self, norm: Tensor) -> bool:
        """The optimizer's update, and whether there was one: without any gradient the weights stay as they are."""
        is_moved = any(parameter.grad is not None for parameter in self.trained) and float(norm) > 0
        if is_moved:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return is_moved

    def require_finite(
        self, loss: Tensor, norm: Tensor, batch: Callable[[], tuple[dict[str, Any], dict[str, Tensor]]]
    ) -> None:
        """Stop before the step, with the batch (JSON and tensors) saved, if the loss or gradient is not a number."""
        if math.isfinite(float(loss)) and math.isfinite(float(norm)):
            return
        path = self.run_path / f"nonfinite-step-{self.step + 1:06d}"
        if self.folder is not None:
            path.mkdir(exist_ok=True)
            record, tensors = batch()
            write_json(path / "groups.json", record)
            save_file(tensors, path / "tensors.safetensors")
        raise NonFinite(
            f"loss {float(loss)}, gradient norm {float(norm)} at step {self.step + 1}; the weights were not changed",
            place=str(path),
            next_step="look at the batch saved there; a lower trainer.lr or a smaller clip often helps",
        )

    def log(self, row: dict[str, Any]) -> None:
        if self.folder is not None:
            self.folder.log(row)
            self.console.row(row)

    def _agreed(self, reason: str | None) -> str | None:
        """The main process' reason to stop, on all processes."""
        if self.prepared.accelerator.num_processes == 1:
            return reason
        reasons: list[str | None] = gather_object([reason])
        return next((r for r in reasons if r), None)

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        is_alone = self.prepared.accelerator.num_processes == 1
        own = {"rng": rng_state(), **self.own_record()}
        each = [own] if is_alone else gather_object([own])
        if self.folder is not None:
            record: dict[str, Any] = {
                "step": self.step,
                "config": self.prepared.experiment.resolved(),
                "near": str(self.prepared.experiment.near or ""),
                "source": self.prepared.source.state_dict(),
                "method": self.method.state_dict(),
                **{name: [process[name] for process in each] for name in own},
                **self.record(),
            }
            tensors = {f"optimizer/{k}": v for k, v in optimizer_state(self.optimizer, self.model).items()}
            state = checkpoint.State(tensors | self.tensors(), record)
            folder = self.run_path / "checkpoints"
            checkpoint.write(folder, self.step, self._save_model, state, keep=self.config.keep)
        self.prepared.accelerator.wait_for_everyone()

    def _save_model(self, path: Path) -> None:
        save_model(self.model, path)
        self.prepared.tokenizer.save_pretrained(path)

    def resume(self, state: checkpoint.State) -> None:
        """Take up a saved state; the model's own weights were loaded from the same checkpoint already."""
        record = state.record
        self.step = record["step"]
        load_optimizer_state(self.optimizer, self.model, below(state.tensors, "optimizer/"))
        place = min(self.prepared.accelerator.process_index, len(record["rng"]) - 1)
        load_rng_state(record["rng"][place])
        self.prepared.source.load_state_dict(record["source"])
        self.take_up(record, place, state.tensors)
        self.method.load_state_dict(record["method"])


def learning_rate(config: TrainerConfig, step: int) -> float:
    """The rate of update number step (from 0): linear warm-up, then constant, linear or cosine to 0."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.lr * (1 - share)
    return config.lr * (1 + math.cos(math.pi * share)) / 2 if config.schedule == "cosine" else config.lr


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
