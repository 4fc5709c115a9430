"""What every method on the offline trainer is: a loss on answers that are given, of a forget and a retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from rl.methods.base import Method, MethodConfig

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["forget", "retain", "all"]
"""A set of rows; "all" is both others."""


@dataclass
class Answers:
    """Log-probs of B given answers, (B, T); 0 where `mask` is 0, which is 1 at the tokens of each answer.

    `logprobs` carry gradient. `ref_logprobs` are the reference's, `kl` is KL(reference || model) in nats over the
    whole vocabulary at each token, with gradient; each None where the method did not ask for it.
    """

    logprobs: Tensor
    mask: Tensor
    ref_logprobs: Tensor | None = None
    kl: Tensor | None = None

    @property
    def sums(self) -> Tensor:
        """(B,) log-probs of whole answers."""
        return (self.logprobs * self.mask).sum(1)

    @property
    def ref_sums(self) -> Tensor:
        """(B,) the reference's log-probs of whole answers; of a method that asked for them."""
        if self.ref_logprobs is None:
            raise ValueError("the method did not ask for the reference's log-probs")
        return (self.ref_logprobs * self.mask).sum(1)

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of each answer."""
        return self.mask.sum(1)


@dataclass
class OfflineBatch:
    """One micro-batch of rows of one part. `refusals`: for each row of the forget part an answer that knows nothing,
    or None. `total_rows`, `total_tokens`: of this part in the whole step, on all processes."""

    part: Part
    answers: Answers
    refusals: Answers | None
    total_rows: int
    total_tokens: int


class OfflineConfig(MethodConfig):
    """`min_utility`: the run fails at an evaluation whose model utility is below this share of that before training,
    and the checkpoints before it stay; 0 never."""

    min_utility: float = Field(default=0.0, ge=0, lt=1)


class OfflineMethod(Method):
    """One method on the offline trainer. Each step gives its loss a batch of every part that it `uses`.

    `needs_ref_logprobs`: whether the forget part has the reference's log-probs. The reference is the model before
    training: they are computed once. `needs_reference`: whether the retain part has the KL to it, for which it is kept.
    `needs_refusals`: whether the forget part has refusals.
    """

    trainer = "offline"
    Config: ClassVar[type[MethodConfig]] = OfflineConfig

    @classmethod
    def needs_rewards(cls, config: Any) -> bool:
        return False

    @property
    def uses(self) -> tuple[Part, ...]:
        """The parts of which each step takes rows."""
        return ("forget",)

    @property
    def needs_ref_logprobs(self) -> bool:
        return False

    @property
    def needs_refusals(self) -> bool:
        return False

    def loss(self, batch: OfflineBatch) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
        """This micro-batch's share of the step's loss, and statistics, each a share of the step's mean."""
        raise NotImplementedError
