"""The loop on answers that are given: to forget, to retain, or to learn. It knows no algorithm by name.

Each step takes the same number of rows of every part that the method uses. The reference is the model before training:
its log-probs of the set to forget are computed once, before the first step, and are part of every checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from engine.errors import Collapsed, InputError
from engine.runs import RunFolder
from rl.methods._offline import Answers, OfflineBatch, Part
from rl.ops.layout import Pair, row_batches
from rl.sources._unlearning import UnlearningSource
from rl.trainers.answers import Encoder, Forward
from rl.trainers.console import Console
from rl.trainers.gradient import sum_gradients
from rl.trainers.knowledge import ALL, Examiner, Row
from rl.trainers.loop import Loop, below
from rl.trainers.model import as_evaluated, load_frozen, require_model
from rl.trainers.parts import Parts
from rl.types import Prompt


class OfflineTrainer(Loop):
    """Steps on given answers. `known`: the reference's log-probs of the set to forget, "answers" and "refusals", (N, T)
    each, and "retained": truth ratios of the model that never saw it."""

    def __init__(self, parts: Parts, run_path: Path, folder: RunFolder | None, console: Console) -> None:
        super().__init__(parts, run_path, folder, console)
        self.source: UnlearningSource = self.prepared.source
        self.examiner = examiner(parts)
        self.forward, self.encoder = self.examiner.forward, self.examiner.encoder
        self.places = {row.id: i for i, row in enumerate(self.source.sets.forget)}
        self.known: dict[str, Tensor] = {}
        self.first_utility: float | None = None

    def run(self) -> None:
        """All remaining steps. Raises Stopped, NonFinite and Collapsed."""
        if self.step == 0:
            self._know_reference()
        super().run()

    def one_step(self) -> None:
        """One update on a batch of every part, its row, and the evaluation that is due."""
        started = time.perf_counter()
        rate = self.set_learning_rate()
        batches = {part: self.source.rows(part, self.config.prompts) for part in self.method.uses}
        self.is_whole = False
        loss, statistics, tokens = self._accumulate(batches)
        norm = self.clipped_norm()
        ids = {"rows": {part: [row.id for row in rows] for part, rows in batches.items()}}
        self.require_finite(loss, norm, lambda: (ids, {}))
        is_moved = self.update_weights(norm)
        self.step += 1
        row = {
            "step": self.step,
            "loss": float(loss),
            **statistics,
            "grad_norm": float(norm),
            "lr": rate,
            "tokens": tokens,
            "skipped": not is_moved,
            "seconds": time.perf_counter() - started,
        }
        self.log(row)
        if self.is_evaluated:
            self.evaluate()
        self.is_whole = True

    def evaluate(self) -> None:
        """Log what the model knows of every set. Raises Collapsed where less use is left than the method allows."""
        started = time.perf_counter()
        retained = self.known["retained"].tolist() if "retained" in self.known else []
        found = self.examiner.knowledge(self.source.evaluation(), retained)
        self.log({"step": self.step, "eval": found, "seconds": time.perf_counter() - started})
        if least := self.method.config.min_utility:
            self._require_utility(found.get(ALL, {}).get("model_utility", 0.0), least)

    def _require_utility(self, utility: float, least: float) -> None:
        if self.step == 0:
            self.first_utility = utility
        if self.first_utility == 0:
            raise InputError(
                "the model utility is 0 before training, so that no collapse could be seen",
                place=self.prepared.experiment.place("method", "min_utility"),
                allowed="0, or sets to retain of which the model says something right (each ROUGE-L above 0)",
            )
        if self.first_utility is not None and utility < least * self.first_utility:
            raise Collapsed(
                f"the model utility fell from {self.first_utility:.4g} to {utility:.4g} at step {self.step}",
                place=str(self.run_path),
                allowed=f"method.min_utility={least:g} of the first one",
                next_step="choose a variant with a retain part, as npo_rt, a lower trainer.lr, or fewer trainer.steps",
            )

    def record(self) -> dict[str, Any]:
        return {"first_utility": self.first_utility}

    def tensors(self) -> dict[str, Tensor]:
        return {f"known/{name}": tensor for name, tensor in self.known.items()}

    def take_up(self, record: dict[str, Any], place: int, tensors: dict[str, Tensor]) -> None:
        self.first_utility, self.known = record["first_utility"], below(tensors, "known/")

    @classmethod
    def measured(cls, parts: Parts) -> dict[str, Row]:
        """What the model knows of every set."""
        source = parts.prepared.source
        return examiner(parts).knowledge(source.evaluation(), truth_ratios_of_retain_model(parts))

    def _know_reference(self) -> None:
        """Fill `known`, with the model as it is before its first update."""
        rows = self.source.sets.forget
        if self.method.needs_ref_logprobs:
            self.known["answers"] = self._reference(self.encoder.answers(rows))
            if self.method.needs_refusals:
                self.known["refusals"] = self._reference(self._refusals(rows))
        if ratios := truth_ratios_of_retain_model(self.parts):
            self.known["retained"] = torch.tensor(ratios, dtype=torch.float64)

    def _reference(self, pairs: Sequence[Pair]) -> Tensor:
        """(N, T) log-probs of all pairs; of several processes each computes its share."""
        accelerator = self.prepared.accelerator
        own = list(range(accelerator.process_index, len(pairs), accelerator.num_processes))
        known = torch.zeros(len(pairs), max(len(answer) for _, answer in pairs), device=accelerator.device)
        if own:
            with torch.no_grad(), as_evaluated(self.model):
                found = self.forward.logprobs([pairs[i] for i in own])
            known[torch.tensor(own, device=known.device), : found.shape[1]] = found
        shared: Tensor = known if accelerator.num_processes == 1 else accelerator.reduce(known, reduction="sum")
        return shared

    def _accumulate(self, batches: Mapping[Part, list[Prompt]]) -> tuple[Tensor, dict[str, float], int]:
        """Backward through one step; its loss, statistics and answer tokens, over all processes."""
        device = self.prepared.accelerator.device
        loss, statistics, tokens = torch.zeros((), device=device), dict[str, Tensor](), 0
        for part, rows in batches.items():
            pairs = self.encoder.answers(rows)
            part_tokens = sum(len(answer) for _, answer in pairs)
            for chosen in self._micro_batches(part, pairs):
                answers, refusals = self._forward(part, [rows[i] for i in chosen], [pairs[i] for i in chosen])
                share, found = self.method.loss(OfflineBatch(part, answers, refusals, len(rows), part_tokens))
                share.backward()
                loss += share.detach()
                for name, value in found.items():
                    statistics[name] = statistics.get(name, torch.zeros_like(value)) + value
            tokens += part_tokens
        return *self._summed(loss, {name: float(value) for name, value in statistics.items()}), tokens

    def _micro_batches(self, part: Part, pairs: Sequence[Pair]) -> list[list[int]]:
        """Places in this process' share of a part's batch, a list a micro-batch."""
        accelerator = self.prepared.accelerator
        own = list(range(accelerator.process_index, len(pairs), accelerator.num_processes))
        passes = 2 if part == "forget" and self.method.needs_refusals else 1
        limit = max(1, self.config.micro_batch_tokens // passes)
        return [sorted(own[n] for n in batch) for batch in row_batches([pairs[i] for i in own], limit)]

    def _forward(self, part: Part, rows: list[Prompt], pairs: list[Pair]) -> tuple[Answers, Answers | None]:
        """The answers of a micro-batch, with what the method wants to know of them, and their refusals."""
        if part == "retain" and self.method.needs_reference:
            return self.forward.answers_with_kl(pairs, self.parts.reference), None
        if part != "forget" or not self.method.needs_ref_logprobs:
            return self.forward.answers(pairs), None
        places = torch.tensor([self.places[row.id] for row in rows])
        answers = self.forward.answers(pairs, self.known["answers"][places])
        if not self.method.needs_refusals:
            return answers, None
        return answers, self.forward.answers(self._refusals(rows), self.known["refusals"][places])

    def _refusals(self, rows: Sequence[Prompt]) -> list[Pair]:
        return [self.encoder.pair(row, self.source.refusal(row)) for row in rows]

    def _summed(self, loss: Tensor, statistics: dict[str, float]) -> tuple[Tensor, dict[str, float]]:
        """Add up gradients, losses and statistics of all processes."""
        accelerator = self.prepared.accelerator
        if accelerator.num_processes == 1:
            return loss, statistics
        sum_gradients(self.model, accelerator)
        shares: list[dict[str, float]] = gather_object([statistics])
        names = dict.fromkeys(name for share in shares for name in share)
        return accelerator.reduce(loss, reduction="sum"), {n: sum(s.get(n, 0.0) for s in shares) for n in names}


def examiner(parts: Parts, model: Any = None) -> Examiner:
    """The examiner of the trained model, or of another one by log-probs alone."""
    prepared = parts.prepared
    config = prepared.experiment.config
    autocast = torch.bfloat16 if config.model.autocast == "bfloat16" else None
    context = getattr(parts.model.config, "max_position_embeddings", None)
    forward = Forward(model if model is not None else parts.model, autocast, config.trainer.micro_batch_tokens)
    encoder = Encoder(prepared.tokenizer, prepared.source, context)
    return Examiner(forward, encoder, parts.sampler, prepared.accelerator)


def truth_ratios_of_retain_model(parts: Parts) -> list[float]:
    """Those of `source.retain_model` on the rows to forget that are evaluated; [] where none is named."""
    prepared = parts.prepared
    if prepared.source.config.retain_model is None:
        return []
    path = require_model(prepared.source.config.retain_model)
    model = load_frozen(prepared.experiment, path, prepared.accelerator.device)
    return examiner(parts, model).ratios(prepared.source.evaluation()["forget"])


TRAINER = OfflineTrainer
