"""The on-policy loop: rollouts, advantages, updates, sync. It knows no algorithm by name.

Every process of an accelerate launch runs this loop on the same batch of groups: each samples its
share of the prompts, the groups are gathered, and each takes the gradient of its share of them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.runs import RunFolder
from rl.trainers.batches import Batches
from rl.trainers.console import Console
from rl.trainers.evaluation import evaluation_rows
from rl.trainers.gradient import Gradient
from rl.trainers.lent import Lent
from rl.trainers.loop import Loop, below
from rl.trainers.parts import Parts
from rl.trainers.seeds import seeded_generator
from rl.trainers.window import Window
from rl.types import Group


class OnlineTrainer(Loop):
    """Steps on rollouts."""

    def __init__(self, parts: Parts, run_path: Path, folder: RunFolder | None, console: Console) -> None:
        super().__init__(parts, run_path, folder, console)
        prepared = self.prepared
        sampling = prepared.experiment.config.policy
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
        self.windows, self.window = 0, None  # type: int, Window | None
        self.updates = max(self.config.iterations, self.method.iterations) * self.config.minibatches
        self.batches = Batches(
            parts.sampler,
            prepared.source,
            prepared.accelerator,
            prompts=self.config.prompts,
            ahead=sampling.max_staleness,
            last=-(-self.config.steps // self.updates),
        )

    def close(self) -> None:
        self.batches.close()
        super().close()

    def one_step(self) -> None:
        """Rollouts where none are left, one update, its row, and the evaluation that is due."""
        started = time.perf_counter()
        if self.window is None:
            self.window = self._collect()
        self.is_whole = False
        staleness = self.step - self.window.oldest_version
        row = self._update(self.window)
        self.step += 1
        is_due = self.is_evaluated
        try:
            self._sync()
        finally:
            self.log({"step": self.step} | row | {"staleness": staleness, "seconds": time.perf_counter() - started})
            if self.window.is_spent:
                self.window = None
            self.is_whole = not is_due
        if is_due:
            self.evaluate()
            self.is_whole = True

    def _sync(self) -> None:
        """Let the policy sample with the new weights, after the batches that it is sampling."""
        self.batches.settle()
        self.parts.policy.sync(self.model, self.step)
        self.prepared.accelerator.wait_for_everyone()

    def _check_stop(self) -> None:
        if self.stop.reason:
            raise self.stop.raised(self.step, self.run_path, is_saved=False)

    def _collect(self) -> Window:
        """Sample a batch of groups on all processes, and compute what its updates need."""
        started = time.perf_counter()
        lent = Lent(
            self.step,
            self.prepared.source,
            self.parts.sampler,
            self.prepared.accelerator,
            self.windows,
            self._check_stop,
        )
        batch = self.batches.next()
        self.is_whole = False  # the source stands behind a batch that has taught nothing yet
        groups = self.method.prepare(batch, lent)
        if self.config.control == "shuffled_rewards":
            self._shuffle(groups)
        window = Window(
            number=self.windows,
            groups=groups,
            advantages={},
            updates=self.updates,
            minibatches=self.config.minibatches,
        )
        self.gradient.prepare_reference(window)
        advantages = self.method.advantages(groups)
        window.advantages = advantages if isinstance(advantages, dict) else {"advantages": advantages}
        window.metrics = dict(self.method.metrics)
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
        rate = self.set_learning_rate()
        started = time.perf_counter()
        chosen = window.minibatch()
        totals = self.gradient.accumulate(window)
        norm = self.clipped_norm()
        self.require_finite(totals.loss, norm, window.state_dict)
        is_moved = self.update_weights(norm)
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

    def evaluate(self) -> None:
        """Log the greedy accuracy on every split of the source; without a reward function there is none."""
        if not self.prepared.scorer.rewards:
            return
        started = time.perf_counter()
        evaluation = self.measured(self.parts)
        if evaluation:
            self.log({"step": self.step, "eval": evaluation, "seconds": time.perf_counter() - started})

    @classmethod
    def measured(cls, parts: Parts) -> dict[str, dict[str, float]]:
        """The greedy accuracy on every split of the source."""
        prepared = parts.prepared
        return evaluation_rows(parts.sampler, prepared.source.evaluation(), prepared.accelerator)

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
                    "prompt": self._prompt(group, i),
                    "completion": group.rollouts[i].text,
                    "finish_reason": group.rollouts[i].finish_reason,
                    "reward": group.rewards[i],
                    "rewards": {name: values[i] for name, values in group.reward_parts.items()},
                    "error": window.failure(group, i),
                    "meta": group.meta,
                }
            )

    def _prompt(self, group: Group, i: int) -> Any:
        """What a completion answered: its group's prompt, or the text of its own."""
        ids = group.rollouts[i].prompt_ids
        return group.prompt.prompt if ids is None else self.prepared.tokenizer.decode(ids)

    def record(self) -> dict[str, Any]:
        window = self.window.state_dict()[0] if self.window is not None else None
        return {"windows": self.windows, "window": window}

    def own_record(self) -> dict[str, Any]:
        return {"ahead": self.batches.state_dict()}

    def tensors(self) -> dict[str, Tensor]:
        pending = self.window.state_dict()[1] if self.window is not None else {}
        return {f"window/{name}": tensor for name, tensor in pending.items()}

    def take_up(self, record: dict[str, Any], place: int, tensors: dict[str, Tensor]) -> None:
        self.windows = record["windows"]
        self.batches.load_state_dict(self.windows, record.get("ahead", [[]] * len(record["rng"]))[place])
        if record["window"] is not None:
            self.window = Window.from_state(record["window"], below(tensors, "window/"))


TRAINER = OnlineTrainer
