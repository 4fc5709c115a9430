"""What every on-policy method is: a config and at most three hooks.

A method file binds its class to METHOD. The trainer knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engine.config import Config
from rl.lazy import torch
from rl.types import Group

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Batch:
    """The tensors of one micro-batch that a loss reads; all (B, T) but advantages, which may be (B, 1).

    `logprobs` carry gradient. `old_logprobs` are those at the start of the step's updates, `ref_logprobs`
    of the reference or None, `sampler_logprobs` as the policy's sampler reported them or None.
    `mask` is 1 up to and including the end token. `total_tokens`: mask sum over the whole
    accumulation window and all processes, `total_rows` likewise, `max_tokens`: the configured limit.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    ref_logprobs: Tensor | None
    sampler_logprobs: Tensor | None
    total_tokens: Tensor
    total_rows: int
    max_tokens: int


class MethodConfig(Config):
    """The `method:` section; `kind` names the file in rl/methods."""

    kind: str


class Method:
    """One on-policy method.

    `trainer`: the loop shape that drives it. `paper`: arXiv id. `needs_reference`: whether the
    trainer must give `ref_logprobs`.
    """

    Config: ClassVar[type[MethodConfig]]
    paper: ClassVar[str]
    title: ClassVar[str]
    trainer: ClassVar[Literal["online", "offline", "zeroth_order"]] = "online"

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def iterations(self) -> int:
        """Optimizer passes over each batch of rollouts."""
        return 1

    def prepare(self, groups: list[Group], step: int) -> list[Group]:
        """Change the groups after rewards and before advantages; as they are by default."""
        return groups

    def advantages(self, groups: Sequence[Group]) -> Tensor:
        """(P, G) or (P, G, T) advantages; rows without reward are 0."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of the step's loss, and statistics (each a scalar tensor)."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What a resumed method must know; plain JSON."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state_dict."""


def rewards_tensor(groups: Sequence[Group]) -> Tensor:
    """(P, G) float32 rewards, NaN where every reward function answered None."""
    rows = [[float("nan") if r is None else r for r in group.rewards] for group in groups]
    return torch.tensor(rows, dtype=torch.float32)
