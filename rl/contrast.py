"""Sampling towards one adapter and away from another, as guidance does with a negative; in this process only.

A negative that was trained with `method: {kind: npo, mode: self_negative}`, or any other adapter that makes a model
worse in a known way, is contrasted with a positive adapter, or with the model itself. See rl.ops.contrast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from engine.errors import DataError, InputError
from rl import checkpoint
from rl.config import load
from rl.ops.contrast import contrasted
from rl.policies._decoding import Decoder
from rl.policies.local import LocalPolicy
from rl.trainers.model import load_frozen, load_tokenizer, require_model

__all__ = ["Contrast", "contrast_of"]


class Contrast(LocalPolicy):
    """Samples from z_pos + s (z_pos - z_neg) over the plausible tokens.

    model: a peft model that holds the adapters. positive, negative: their names; None is the model without any.
    strength: s. plausibility: the cut, as a share of the most likely token's probability. The log-probs of rollouts
    are those of what was sampled from. Raises InputError for an adapter that the model has not.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        positive: str | None,
        negative: str | None,
        strength: float = 0.5,
        plausibility: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, **options)
        for name in (positive, negative):
            if name is not None and name not in getattr(model, "peft_config", {}):
                known = ", ".join(getattr(model, "peft_config", {})) or "none"
                raise InputError(f"the model has no adapter '{name}'", allowed=f"None, or its adapters: {known}")
        blank = torch.zeros(1, 1)
        contrasted(blank, blank, strength=strength, plausibility=plausibility)
        self.positive, self.negative = positive, negative
        self.strength, self.plausibility = strength, plausibility

    def _decoder(self) -> Decoder:
        plain = super()._decoder()
        return _Decoder(plain.model, plain.tokenizer, plain.end_ids, plain.pad_id, plain.device, self)


@dataclass
class _Caches:
    """A cache for each side, which rows leave together."""

    positive: Any
    negative: Any

    def batch_select_indices(self, rows: Tensor) -> None:
        self.positive.batch_select_indices(rows)
        self.negative.batch_select_indices(rows)

    def batch_repeat_interleave(self, times: int) -> None:
        self.positive.batch_repeat_interleave(times)
        self.negative.batch_repeat_interleave(times)


@dataclass(frozen=True)
class _Decoder(Decoder):
    """Decodes with both adapters in turn."""

    policy: Contrast

    def _cache(self) -> tuple[Any, bool]:
        (first, is_plain), (second, _) = super()._cache(), super()._cache()
        return _Caches(first, second), is_plain

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        policy = self.policy
        with as_adapter(self.model, policy.positive):
            positive = super()._forward(ids, mask, cache.positive)
        with as_adapter(self.model, policy.negative):
            negative = super()._forward(ids, mask, cache.negative)
        return contrasted(positive, negative, strength=policy.strength, plausibility=policy.plausibility)


@contextlib.contextmanager
def as_adapter(model: Any, name: str | None) -> Iterator[None]:
    """The model with that adapter alone, or with none; then with those that it had, trained as they were."""
    if name is None:
        with model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext():
            yield
        return
    active, trained = model.active_adapter, [(p, p.requires_grad) for p in model.parameters()]
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(active)
        for parameter, is_trained in trained:
            parameter.requires_grad_(is_trained)


def contrast_of(
    negative: str | Path, positive: str | Path | None = None, *, strength: float = 0.5, plausibility: float = 0.1
) -> Contrast:
    """A run's adapters as the negative, and another run's as the positive; None: the model that both began with.

    negative, positive: folders of runs, or checkpoints of them. Raises DataError for a run without adapters and for
    runs that began with different models.
    """
    folders = {"negative": _newest(negative), **({"positive": _newest(positive)} if positive is not None else {})}
    experiments = {}
    for name, folder in folders.items():
        record = checkpoint.read_state(folder).record
        experiments[name] = load(record["config"], near=Path(record["near"]) if record["near"] else None)
        if experiments[name].config.model.lora is None:
            raise DataError("the run trained all weights", place=str(folder), allowed="runs with model.lora")
    names = {experiment.config.model.name for experiment in experiments.values()}
    if len(names) > 1:
        raise DataError(f"the runs began with different models: {', '.join(sorted(names))}", allowed="one model")
    experiment = experiments["negative"]
    path = require_model(experiment.config.model.name, experiment.near)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = load_frozen(experiment, path, device)
    model = PeftModel.from_pretrained(base, folders["negative"], adapter_name="negative")
    if positive is not None:
        model.load_adapter(folders["positive"], adapter_name="positive")
    return Contrast(
        model.to(device).eval(),
        load_tokenizer(path),
        positive=None if positive is None else "positive",
        negative="negative",
        strength=strength,
        plausibility=plausibility,
        autocast=experiment.config.model.autocast,
    )


def _newest(run: str | Path) -> Path:
    """The checkpoint itself, or a run's newest one. Raises DataError and CheckpointError."""
    path = Path(run)
    if (path / checkpoint.MANIFEST).exists():
        return checkpoint.require_sound(path)
    if not (found := checkpoint.steps(path / "checkpoints")):
        raise DataError("the run has no checkpoint", place=str(path), next_step="give the folder of a training run")
    return checkpoint.require_sound(found[-1])
