"""The on-policy loop: rollouts, advantages, updates, sync. It knows no algorithm by name.

Every process of an accelerate launch runs this loop on the same batch of groups: each samples its
share of the prompts, the groups are gathered, and each takes the gradient of its share of them.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import NonFinite, Stopped
from engine.runs import RunFolder, write_json
from rl import checkpoint
from rl.config import TrainerConfig
from rl.trainers.batches import Batches
from rl.trainers.console import Console
from rl.trainers.evaluation import evaluation_rows
from rl.trainers.gradient import Gradient, Totals
from rl.trainers.lent import Lent
from rl.trainers.model import quiet_progress
from rl.trainers.parts import Parts
from rl.trainers.seeds import seeded_generator
from rl.trainers.state import load_optimizer_state, load_rng_state, optimizer_state, rng_state
from rl.trainers.stop import StopRequest
from rl.trainers.window import Window
from rl.types import Group


class OnlineTrainer:
    """Runs the steps of one run. `folder` is None on all processes but the main one."""

    def __init__(self, parts: Parts, run_path: Path, folder: RunFolder | None, console: Console) -> None:
        self.parts, self.run_path, self.folder, self.console = parts, run_path, folder, console
        self.prepared = prepared = parts.prepared
        self.config: TrainerConfig = prepared.experiment.config.trainer
        sampling = prepared.experiment.config.policy
        self.model, self.method = parts.model, prepared.method
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=self.config.lr,
            betas=self.config.betas,
            eps=self.config.adam_eps,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        self.gradient = Gradient(
            model=self.model,
            method=self.method,
            accelerator=prepared.accelerator,
            reference=parts.reference,
            autocast=torch.bfloat16 if prepared.experiment.config.model.autocast == "bfloat16" else None,
            is_sampler=parts.policy.samples_trained_model,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            micro_batch_tokens=self.config.micro_batch_tokens,
        )
        self.step, self.windows, self.window = 0, 0, None  # type: int, int, Window | None
        self.is_whole = True
        self.updates = max(self.config.iterations, self.method.iterations) * self.config.minibatches
        self.batches = Batches(
            parts.sampler,
            prepared.source,
            prepared.accelerator,
            prompts=self.config.prompts,
            ahead=sampling.max_staleness,
            last=-(-self.config.steps // self.updates),
        )

    def run(self) -> None:
        """All remaining steps. Raises Stopped and NonFinite."""
        with StopRequest(self.run_path) as stop, contextlib.closing(self.batches):
            if self.step == 0 and self.config.eval_every:
                self._evaluate()
            while self.step < self.config.steps:
                try:
                    self._one_step()
                except Stopped:  # by the policy, whose servers stay away
                    if self.is_whole and self.step:
                        self.save()
                    raise
                is_last, reason = self.step == self.config.steps, self._agreed(stop.reason)
                if is_last or reason or self.step % self.config.save_every == 0:
                    self.save()
                if reason and not is_last:
                    raise stop.raised(self.step, self.run_path)

    def _one_step(self) -> None:
        """Rollouts where none are left, one update, its row, and the evaluation that is due.

        `is_whole` says whether a checkpoint of this moment would lose nothing.
        """
        started = time.perf_counter()
        if self.window is None:
            self.window = self._collect()
        self.is_whole = False
        staleness = self.step - self.window.oldest_version
        row = self._update(self.window)
        self.step += 1
        every = self.config.eval_every
        is_due = bool(every) and (self.step % every == 0 or self.step == self.config.steps)
        try:
            self._sync()
        finally:
            self._log({"step": self.step} | row | {"staleness": staleness, "seconds": time.perf_counter() - started})
            if self.window.is_spent:
                self.window = None
            self.is_whole = not is_due
        if is_due:
            self._evaluate()
            self.is_whole = True

    def _sync(self) -> None:
        """Let the policy sample with the new weights, after the batches that it is sampling."""
        self.batches.settle()
        self.parts.policy.sync(self.model, self.step)
        self.prepared.accelerator.wait_for_everyone()

    def _collect(self) -> Window:
        """Sample a batch of groups on all processes, and compute what its updates need."""
        started = time.perf_counter()
        lent = Lent(self.step, self.prepared.source, self.parts.sampler, self.prepared.accelerator, self.windows)
        groups = self.method.prepare(self.batches.next(), lent)
        if self.config.control == "shuffled_rewards":
            self._shuffle(groups)
        advantages = self.method.advantages(groups)
        window = Window(
            number=self.windows,
            groups=groups,
            advantages=advantages if isinstance(advantages, dict) else {"advantages": advantages},
            updates=self.updates,
            minibatches=self.config.minibatches,
            metrics=dict(self.method.metrics),
        )
        self.windows += 1
        self.gradient.prepare(window)
        window.seconds = time.perf_counter() - started
        self._samples(window)
        return window

    def _shuffle(self, groups: list[Group]) -> None:
        """The control: rewards in another order, within each group or, where the method compares further (the groups
        of one meta["cell"]), within that. Advantages stay as many and as large as those of a real run, and say
        nothing about the completion that they are given to."""
        generator = seeded_generator(self.prepared.experiment.config.seed, "shuffled_rewards", self.windows)
        cells: dict[Any, list[Group]] = {}
        for place, group in enumerate(groups):
            cells.setdefault(group.meta.get("cell", place), []).append(group)
        for cell in cells.values():
            rewards = [reward for group in cell for reward in group.rewards]
            shuffled = iter([rewards[i] for i in torch.randperm(len(rewards), generator=generator).tolist()])
            for group in cell:
                group.rewards = [next(shuffled) for _ in group.rewards]

    def _update(self, window: Window) -> dict[str, Any]:
        """One optimizer update. Without any signal the weights stay as they are."""
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        started = time.perf_counter()
        chosen = window.minibatch()
        totals = self.gradient.accumulate(window)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.clip_grad_norm, foreach=True)
        self._require_finite(window, totals, norm)
        is_moved = any(parameter.grad is not None for parameter in self.trained) and float(norm) > 0
        if is_moved:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        window.done += 1
        return {
            **window.statistics(),
            **window.metrics,
            **window.failures(),
            "loss": float(totals.loss),
            "grad_norm": float(norm),
            "lr": rate,
            "tokens": window.tokens(chosen),
            "trained_tokens": int(totals.tokens),
            "batch": window.number,
            "skipped": not is_moved,
            **totals.means(),
            "seconds_rollouts": window.seconds if window.done == 1 else 0.0,
            "seconds_update": time.perf_counter() - started,
        }

    def _require_finite(self, window: Window, totals: Totals, norm: Tensor) -> None:
        """Stop before the step, with the batch saved, if the loss or the gradient is not a number."""
        if math.isfinite(float(totals.loss)) and math.isfinite(float(norm)):
            return
        path = self.run_path / f"nonfinite-step-{self.step + 1:06d}"
        if self.folder is not None:
            path.mkdir(exist_ok=True)
            record, tensors = window.state_dict()
            write_json(path / "groups.json", record)
            save_file(tensors, path / "tensors.safetensors")
        raise NonFinite(
            f"loss {float(totals.loss)}, gradient norm {float(norm)} at step {self.step + 1}; "
            "the weights were not changed",
            place=str(path),
            next_step="look at the batch saved there; a lower trainer.lr or a smaller clip often helps",
        )

    def _evaluate(self) -> None:
        """Log the greedy accuracy on every split of the source."""
        started = time.perf_counter()
        evaluation = evaluation_rows(self.parts.sampler, self.prepared.source.evaluation(), self.prepared.accelerator)
        if evaluation:
            self._log({"step": self.step, "eval": evaluation, "seconds": time.perf_counter() - started})

    def _samples(self, window: Window) -> None:
        if self.folder is None:
            return
        flat = [(group, i) for group in window.groups for i in range(len(group.rollouts))]
        stride = max(1, len(flat) // max(1, self.config.samples))
        for group, i in flat[::stride][: self.config.samples]:
            self.folder.sample(
                {
                    "step": self.step + 1,
                    "id": group.prompt.id,
                    "prompt": group.prompt.prompt,
                    "completion": group.rollouts[i].text,
                    "finish_reason": group.rollouts[i].finish_reason,
                    "reward": group.rewards[i],
                    "rewards": {name: values[i] for name, values in group.reward_parts.items()},
                    "error": window.failure(group, i),
                }
            )

    def _log(self, row: dict[str, Any]) -> None:
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
        own = {"rng": rng_state(), "ahead": self.batches.state_dict()}
        each = [own] if is_alone else gather_object([own])
        if self.folder is not None:
            record: dict[str, Any] = {
                "step": self.step,
                "windows": self.windows,
                "config": self.prepared.experiment.resolved(),
                "near": str(self.prepared.experiment.near or ""),
                "rng": [process["rng"] for process in each],
                "ahead": [process["ahead"] for process in each],
                "source": self.prepared.source.state_dict(),
                "method": self.method.state_dict(),
                "window": None,
            }
            tensors = {f"optimizer/{k}": v for k, v in optimizer_state(self.optimizer, self.model).items()}
            if self.window is not None:
                record["window"], pending = self.window.state_dict()
                tensors |= {f"window/{name}": tensor for name, tensor in pending.items()}
            state = checkpoint.State(tensors, record)
            folder = self.run_path / "checkpoints"
            checkpoint.write(folder, self.step, self._save_model, state, keep=self.config.keep)
        self.prepared.accelerator.wait_for_everyone()

    def _save_model(self, path: Path) -> None:
        with quiet_progress():
            self.model.save_pretrained(path)
        self.prepared.tokenizer.save_pretrained(path)

    def resume(self, state: checkpoint.State) -> None:
        """Take up a saved state; the model's own weights were loaded from the same checkpoint already."""
        record = state.record
        self.step, self.windows = record["step"], record["windows"]
        load_optimizer_state(self.optimizer, self.model, _below(state.tensors, "optimizer/"))
        place = min(self.prepared.accelerator.process_index, len(record["rng"]) - 1)
        load_rng_state(record["rng"][place])
        self.prepared.source.load_state_dict(record["source"])
        self.batches.load_state_dict(self.windows, record.get("ahead", [[]] * len(record["rng"]))[place])
        self.method.load_state_dict(record["method"])
        if record["window"] is not None:
            self.window = Window.from_state(record["window"], _below(state.tensors, "window/"))


def learning_rate(config: TrainerConfig, step: int) -> float:
    """The rate of update number step (from 0): linear warm-up, then constant, linear or cosine to 0."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.lr * (1 - share)
    return config.lr * (1 + math.cos(math.pi * share)) / 2 if config.schedule == "cosine" else config.lr


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


TRAINER = OnlineTrainer
