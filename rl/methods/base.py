"""What every on-policy method is: a config and at most three hooks.

A method file binds its class to METHOD. The trainer knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from engine.config import Config
from rl.lazy import torch
from rl.types import Group, Prompt

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Batch:
    """The tensors of one micro-batch that a loss reads; all (B, T) but advantages, which may be (B, 1).

    `logprobs` carry gradient. `old_logprobs` are those at the start of the step's updates, `ref_logprobs`
    of the reference or None, `sampler_logprobs` as the policy's sampler reported them or None.
    `mask` is 1 up to and including the end token. `total_tokens`: mask sum over the whole
    accumulation window and all processes, `total_rows` likewise, `max_tokens`: the configured limit.
    `more`: the further advantages that the method gave, by name.
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
    more: Mapping[str, Tensor] = field(default_factory=dict)


class Tools(Protocol):
    """What the trainer lends to `Method.prepare`. `step`: optimizer updates so far. `source`: the run's."""

    step: int
    source: Any

    def sample(self, prompts: Sequence[Prompt], n: int, **sampling: Any) -> list[Group]:
        """A scored group of n completions of each prompt, in their order, from the policy as it is now.

        sampling: fields of Request that differ from the config's, as temperature=0.0. Processes share the work
        and get the same groups; each call has seeds of its own, the same after a resume.
        """

    def shared(self, items: Sequence[T], compute: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """compute(items), one result an item, for what is slow or answers otherwise each time, as a judge.

        Of several processes each computes its share of the items, and all get all results, in the items' order.
        """

    def check(self) -> None:
        """To be called about once a second where somebody is waited for. Raises Stopped where the run shall end."""


class MethodConfig(Config):
    """The `method:` section; `kind` names the file in rl/methods."""

    kind: str


class Method:
    """One on-policy method.

    `trainer`: the loop shape that drives it. `paper`: arXiv id. `needs_reference`: whether the trainer must give
    `ref_logprobs`: to `advantages` those of whole completions, in the groups, and to `loss` those of tokens.
    `is_quantized`: whether it trains the scales of a quantized model. `metrics`: what the mechanism did with the batch
    that was last prepared, a row of metrics.jsonl gets it. `modes`: the class in whose stead another one stands, by the
    section's `mode`, where a name has several ways to be trained.

    seed: the run's. near: the config file, or its folder, beside which relative paths are looked up first.
    """

    Config: ClassVar[type[MethodConfig]]
    paper: ClassVar[str]
    title: ClassVar[str]
    trainer: ClassVar[Literal["online", "offline", "zeroth_order", "diffusion"]] = "online"
    is_quantized: ClassVar[bool] = False
    modes: ClassVar[Mapping[str, type[Method]]] = {}

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        self.config, self.seed, self.near = config, seed, near
        self.metrics: dict[str, float] = {}

    @classmethod
    def needs_rewards(cls, config: Any) -> bool:
        """Whether the run's config must name reward functions, with this section of the method."""
        return True

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def iterations(self) -> int:
        """Optimizer passes over each batch of rollouts."""
        return 1

    def prepare(self, groups: list[Group], tools: Tools) -> list[Group]:
        """Change the groups after rewards and before advantages; as they are by default.

        Groups may come and go and need not be of one size. Draws on nothing but its arguments and its own
        state, so that a resumed run does the same.
        """
        return groups

    def advantages(self, groups: Sequence[Group]) -> Tensor | dict[str, Tensor]:
        """(P, G) or (P, G, T) advantages; rows without reward, or beyond the group's end, are 0.

        Or several by name, one of them "advantages"; the loss finds the others in `Batch.more`. A completion
        whose advantages are all 0 is not trained on.
        """
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's share of the step's loss, and statistics (each a scalar tensor)."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What a resumed method must know; plain JSON."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state_dict."""

    def close(self) -> None:
        """Let go of what the method holds; called at the end of a run, however it ends."""


def rewards_tensor(groups: Sequence[Group]) -> Tensor:
    """(P, G) float32 rewards, NaN where every reward function answered None and beyond the end of smaller groups."""
    size = max(len(group.rewards) for group in groups)
    rows = [[*group.rewards, *[None] * (size - len(group.rewards))] for group in groups]
    return torch.tensor([[float("nan") if r is None else r for r in row] for row in rows], dtype=torch.float32)
