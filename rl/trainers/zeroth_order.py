"""The loop on forward passes only: points are measured, and x moves. It knows no algorithm by name.

Of several processes each measures its share of the points of a step; they exchange what was found, a number a point,
and all make the same move. Directions follow from (seed, step, number), so nothing else need be told.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.autograd import forward_ad

from engine.errors import ConfigError, DataError, EngineError, InputError, NonFinite, Stopped
from engine.runs import RunFolder, read_lines, write_json
from rl.config import Experiment, is_live
from rl.methods._zeroth_order import Measured, Point, Slope, ZerothOrderMethod
from rl.ops.perturbation import noise
from rl.trainers.answers import Encoder, Forward
from rl.trainers.console import Console
from rl.trainers.directions import Directions
from rl.trainers.evaluation import evaluation_rows
from rl.trainers.loop import Loop, below
from rl.trainers.model import as_evaluated
from rl.trainers.objectives import AnswerLoss, Objective, SampledReward, Samples
from rl.trainers.parts import Parts
from rl.trainers.soft_prompt import bare, prefix_of, save_soft_prompt
from rl.trainers.variables import Live, Placed, Variables, trained
from rl.types import Group, Prompt

T = TypeVar("T")


class ZerothOrderTrainer(Loop):
    """Steps on measured points. `pushes`: how often a policy was given weights, those of points among them."""

    def __init__(self, parts: Parts, run_path: Path, folder: RunFolder | None, console: Console) -> None:
        super().__init__(parts, run_path, folder, console)
        self.method: ZerothOrderMethod = self.method
        self.source: Any = self.prepared.source
        experiment = self.prepared.experiment
        self.objective = objective_of(parts)
        _require_own_sampler(parts, self.objective)
        self.variables = variables_of(experiment, self.model, self.method, self.prepared.accelerator.device)
        self.method.rate, self.method.awaited = self.config.lr, self._awaited
        self.method.begin(self.variables.x)
        self.pushes = 0

    def run(self) -> None:
        """All remaining steps. Raises Stopped and NonFinite."""
        self._push()
        super().run()

    def one_step(self) -> None:
        """One move, its row, and the evaluation that is due. Raises Stopped, with nothing changed, where nobody answers
        or the policy's servers stay away."""
        batches = self.source.state_dict()
        try:
            self._move()
        except Stopped:
            self.source.load_state_dict(batches)
            raise
        self.is_whole = not self.is_evaluated
        self._push()
        if self.is_evaluated:
            self.evaluate()
        self.is_whole = True

    def _move(self) -> None:
        """Measure, move, and log it."""
        started = time.perf_counter()
        rate = self.set_learning_rate()
        rows = self.source.batch(self.config.prompts)
        points = self.method.points(self.step)
        measured = self._measured(points, rows)
        move = self._checked(self.method.move(self.step, rate, measured), measured, rows)
        self.variables.move(move, self.step)
        self.step += 1
        row = {
            "step": self.step,
            **({} if any(isinstance(p, Slope) for p in points) else self._summary(measured)),
            **self.method.metrics,
            "points": len(points),
            "lr": rate,
            **({} if self.method.moves_values else {"terms": [list(term) for term in move.terms]}),
            "seconds": time.perf_counter() - started,
        }
        self.log(row)
        self._samples(measured)

    def _measured(self, points: Sequence[Point | Slope], rows: Sequence[Prompt]) -> list[Measured]:
        """What was found at every point; of several processes each looks at its share."""
        accelerator = self.prepared.accelerator
        own = range(accelerator.process_index, len(points), accelerator.num_processes)
        with as_evaluated(self.model):
            found = list(zip(own, self._found([points[i] for i in own], rows), strict=True))
        if accelerator.num_processes > 1:
            found = sorted(gather_object(found), key=lambda pair: pair[0])
        return [measured for _, measured in found]

    def _found(self, points: Sequence[Point | Slope], rows: Sequence[Prompt]) -> list[Measured]:
        objective = self.objective
        if isinstance(objective, SampledReward):
            requests, version = objective.requests(rows, self.step), self.pushes + 1
            self.pushes += len(points)
            with contextlib.closing(self._models(points)) as models:
                found = self.parts.policy.generate_beside(requests, models, version)
            pairs = [list(zip(rows, requests, rollouts, strict=True)) for rollouts in found]
            return [objective.measured([Group(p, r.prompt_ids, own) for p, r, own in pair]) for pair in pairs]
        return [self._at(point, rows, objective) for point in points]

    def _models(self, points: Sequence[Point | Slope]) -> Generator[Any]:
        """The model at each of the points; there until the next is taken."""
        for point in points:
            assert isinstance(point, Point)
            with self.variables.at(point, self.step):
                yield self.model

    def _at(self, point: Point | Slope, rows: Sequence[Prompt], objective: AnswerLoss) -> Measured:
        if isinstance(point, Slope):
            return Measured(self._slope(point.number, rows))
        with self.variables.at(point, self.step):
            return objective.measured(rows)

    def _awaited(self, poll: Callable[[], T | None]) -> T:
        """What poll returns in the main process once that is not None, in all of them. Raises Stopped on request."""
        while True:
            found, error = self._from_main(poll)
            if error is not None:
                raise error
            if found is not None:
                return found
            if self._agreed(self.stop.reason):
                raise self.stop.raised(self.step, self.run_path)

    def _from_main(self, poll: Callable[[], T | None]) -> tuple[T | None, Exception | None]:
        """What poll returns, or the error that it raises, in the main process; in all processes."""
        found: T | None = None
        error: Exception | None = None
        if self.prepared.accelerator.is_main_process:
            try:
                found = poll()
            except Exception as raised:
                error = raised
        if self.prepared.accelerator.num_processes > 1:
            told: list[Any] = [found, None if error is None else f"the main process: {error}"]
            broadcast_object_list(told)
            found, error = told[0], error or (EngineError(told[1]) if told[1] else None)
        return found, error

    def _slope(self, number: int, rows: Sequence[Prompt]) -> float:
        """The derivative of the loss along a direction."""
        assert isinstance(self.objective, AnswerLoss)
        with self.variables.along(number, self.step):
            loss = self.objective.loss(rows)
            slope = forward_ad.unpack_dual(loss).tangent
            return 0.0 if slope is None else float(slope)

    @property
    def objective_samples(self) -> bool:
        """Whether points are measured by completions, for which the policy must have their weights."""
        return not isinstance(self.objective, AnswerLoss)

    def _push(self) -> None:
        """Let the policy sample with the model as it is."""
        self.pushes += 1
        self.parts.policy.sync(self.model, self.pushes)

    def _checked(self, move: Point, measured: Sequence[Measured], rows: Sequence[Prompt]) -> Point:
        """The move, if it is made of numbers. Raises NonFinite, with what was found saved, before x is changed."""
        coefficients = [coefficient for _, coefficient in move.terms]
        is_finite = all(map(math.isfinite, coefficients))
        is_finite &= all(bool(tensor.isfinite().all()) for tensor in (move.values or {}).values())
        if is_finite:
            return move
        path = self.run_path / f"nonfinite-step-{self.step + 1:06d}"
        if self.folder is not None:
            path.mkdir(exist_ok=True)
            found = {"rows": [row.id for row in rows], "losses": [repr(one.loss) for one in measured]}
            write_json(path / "points.json", found)
        raise NonFinite(
            f"what was measured at step {self.step + 1} gives no move: {[one.loss for one in measured]!r:.200}; "
            "the weights were not changed",
            place=str(path),
            next_step="a lower trainer.lr or method.mu helps where a loss went to infinity; a reward that answers None "
            "for all completions of a point leaves nothing to compare",
        )

    def _summary(self, measured: Sequence[Measured]) -> dict[str, float | None]:
        """The mean of what was found at the points, as a loss or as a reward."""
        known = [found.loss for found in measured if not math.isnan(found.loss)]
        mean = math.fsum(known) / len(known) if known else None
        if isinstance(self.objective, Samples):
            return {}
        return {"reward_mean": None if mean is None else -mean} if self.objective_samples else {"loss": mean}

    def _samples(self, measured: Sequence[Measured]) -> None:
        """Some of what points made the model write."""
        if self.folder is None:
            return
        for number, found in enumerate(measured[: self.config.samples]):
            if found.shown:
                loss = None if math.isnan(found.loss) else found.loss
                self.folder.sample({"step": self.step, "point": number, "loss": loss, "completion": found.shown})

    def evaluate(self) -> None:
        """Log what x is worth on every split of the source."""
        started = time.perf_counter()
        if evaluation := self.measured(self.parts):
            self.log({"step": self.step, "eval": evaluation, "seconds": time.perf_counter() - started})

    @classmethod
    def measured(cls, parts: Parts) -> dict[str, dict[str, float]]:
        """Of every split: the greedy accuracy if rewards are named, and the loss if that is the objective."""
        splits = parts.prepared.source.evaluation()
        found: dict[str, dict[str, float]] = {split: {} for split in splits}
        if parts.prepared.scorer.rewards:
            found = evaluation_rows(parts.sampler, splits, parts.prepared.accelerator)
        objective = objective_of(parts)
        if isinstance(objective, AnswerLoss):
            with as_evaluated(parts.model):
                for split, rows in splits.items():
                    found[split]["loss"] = objective.measured(rows).loss
        return found

    def record(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {f"variables/{name}": tensor for name, tensor in self.variables.tensors().items()}

    def _save_model(self, path: Path) -> None:
        """The model that transformers loads, and beside it what that cannot hold."""
        with bare(self.model):
            super()._save_model(path)
        save_soft_prompt(self.model, path)

    def take_up(self, record: dict[str, Any], place: int, tensors: dict[str, Tensor]) -> None:
        self.variables.load_tensors(below(tensors, "variables/"))
        self.method.begin(self.variables.start)


def objective_of(parts: Parts) -> Objective:
    """What the config measures."""
    prepared = parts.prepared
    config = prepared.experiment.config
    kinds = {"reward": SampledReward, "samples": Samples}
    if kind := kinds.get(prepared.experiment.method.objective):
        return kind(parts.sampler)
    autocast = torch.bfloat16 if config.model.autocast == "bfloat16" else None
    context = getattr(parts.model.config, "max_position_embeddings", None)
    ending = config.policy.stop[0] if config.policy.stop else None
    forward = Forward(parts.model, autocast, config.trainer.micro_batch_tokens)
    encoder = Encoder(prepared.tokenizer, prepared.source, context, ending, prefix_of(parts.model))
    return AnswerLoss(forward, encoder)


def _require_own_sampler(parts: Parts, objective: Objective) -> None:
    """Raise ConfigError for processes that would sample their points from one server: it has one process' weights."""
    is_shared = parts.prepared.accelerator.num_processes > 1 and not parts.policy.samples_trained_model
    if is_shared and isinstance(objective, SampledReward):
        raise ConfigError(
            "several processes measure different points, and a server has the weights of one of them",
            place=parts.prepared.experiment.place("policy", "engine"),
            allowed="one process, or policy.engine=local",
        )


def variables_of(
    experiment: Experiment, model: nn.Module, method: ZerothOrderMethod, device: torch.device
) -> Variables:
    """x, as the config has it: live where forward passes of whole weights are all that is wanted."""
    seed, settings = experiment.config.seed, experiment.method
    begin_adapters(model, seed)
    directions = Directions(method, seed, device)
    if is_live(settings, experiment.config.model) and not method.moves_values:
        return Live(model, directions)
    try:
        return Placed(model, directions, dims=settings.space.dims, seed=seed)
    except InputError as error:
        error.place = error.place or experiment.place("method", "space", "dims")
        raise


LORA_B = 1e-3
"""The standard deviation of an adapter's second matrix at the start."""


def begin_adapters(model: nn.Module, seed: int) -> None:
    """Make adapters' second matrices small and random where they are 0: the first ones would change nothing."""
    zero = {n: p for n, p in trained(model).items() if "lora_B" in n and not bool(p.any())}
    with torch.no_grad():
        for name, values in noise(zero, seed, "lora_B").items():
            zero[name].copy_(LORA_B * values)


def replay(run: Path, model: nn.Module, experiment: Experiment, method: ZerothOrderMethod) -> None:
    """Bring the starting model to where the run is, by the terms in its metrics.jsonl and nothing else.

    Raises DataError for a run whose moves are no terms.
    """
    device = next(model.parameters()).device
    variables = variables_of(experiment, model, method, device)
    method.begin(variables.x)
    for row in read_lines(run / "metrics.jsonl"):
        if "eval" in row:
            continue
        if not isinstance(row.get("terms"), list):
            raise DataError("a step without terms", place=str(run / "metrics.jsonl"))
        terms = tuple((int(number), float(coefficient)) for number, coefficient in row["terms"])
        variables.move(Point(terms), row["step"] - 1)


TRAINER = ZerothOrderTrainer
