"""Supervised fine-tuning on given answers: what a model must have learnt before it can unlearn it.

Paper: TOFU, 2401.06121, which fine-tunes a model on all authors, and for comparison one on the retain set alone:

    L = -(sum over answers and tokens of log pi(y_t | x, y_<t)) / (number of answer tokens)

What it means: the model answers the questions as the data does. `learn: retain` makes the model that never saw the
forget set, against which TOFU's forget quality is measured (`source.retain_model`). When it fails: with few rows it
memorizes wordings within epochs, which for unlearning experiments is the purpose.

Departures from the paper:
1. The end token is part of the answer; the loss is on answers alone, as TOFU's program has it.
2. Steps, batch and learning rate are the trainer's; the paper has 5 epochs of batches of 32 at 1e-5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from rl.methods._offline import OfflineBatch, OfflineConfig, OfflineMethod, Part
from rl.methods.base import MethodConfig

if TYPE_CHECKING:
    from torch import Tensor


class SftConfig(OfflineConfig):
    """`learn`: all rows, those to forget and those to retain, or the latter alone."""

    kind: Literal["sft"] = "sft"
    learn: Literal["all", "retain"] = "all"


class Sft(OfflineMethod):
    """Supervised fine-tuning. See the module."""

    Config: ClassVar[type[MethodConfig]] = SftConfig
    paper = "2401.06121"
    title = "Supervised fine-tuning on given answers"
    config: SftConfig

    @property
    def uses(self) -> tuple[Part, ...]:
        return (self.config.learn,)

    def loss(self, batch: OfflineBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """The mean over the step's tokens of -log pi: this micro-batch's share of it."""
        loss = -batch.answers.sums.sum() / batch.total_tokens
        return loss, {"nll": loss.detach()}


METHOD = Sft
