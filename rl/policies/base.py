"""What every policy is: something that samples completions with a numbered set of weights.

    requests (token ids in) -> generate -> rollouts (token ids and log-probs out)

Tokens go in and come out as ids, so nothing is ever tokenized twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from rl.types import Request, Rollout

if TYPE_CHECKING:
    from torch import Tensor, nn


class Policy(ABC):
    """Samples completions. Subclasses bind themselves to POLICY in `rl/policies/NAME.py`.

    Contract, for every policy:

    - `completion_ids` are the tokens that were sampled, up to and including the one that ended the
      completion: an end-of-sequence token, or the token that completed a stop string.
    - `text` is the decoded completion without special tokens, cut before the stop string.
    - a completion depends on its prompt, its sampling settings, `request.seed`, its index among the
      n and the weights; not on the other requests of the call (up to floating point).
    - the global random state is neither read nor changed.
    - a request that cannot be served comes back as rollouts with `finish_reason` "error" and the
      reason in `error`; only a fault of the whole policy raises.

    `version`: the number of the weights that sample now; it is written into every rollout.
    """

    version: int = 0

    @classmethod
    def missing(cls) -> list[str]:
        """What this policy needs and this machine lacks, a sentence each; empty where it can run."""
        return []

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[list[Rollout]]:
        """The n rollouts of each request, in the order of the requests."""

    @abstractmethod
    def sync(self, state: nn.Module | Mapping[str, Tensor] | None, version: int) -> None:
        """Sample with these weights from now on; they are number `version`."""

    def close(self) -> None:  # noqa: B027 - most policies hold nothing
        """Free what the policy holds; it generates no more."""

    def __enter__(self) -> Policy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_request(request: Request) -> None:
    """Raise InputError for sampling settings that mean nothing, naming the setting and its range."""
    rules: list[tuple[str, Any, bool, str]] = [
        ("n", request.n, request.n >= 1, "1 or more"),
        ("max_tokens", request.max_tokens, request.max_tokens >= 1, "1 or more"),
        ("temperature", request.temperature, request.temperature >= 0, "0 (greedy) or more"),
        ("top_p", request.top_p, 0 < request.top_p <= 1, "above 0, at most 1 (1: off)"),
        ("top_k", request.top_k, request.top_k >= 0, "0 (off) or more"),
        ("min_p", request.min_p, 0 <= request.min_p < 1, "0 (off) or more, below 1"),
        ("stop", request.stop, all(request.stop), "strings that are not empty"),
    ]
    for name, value, is_right, allowed in rules:
        if not is_right:
            raise InputError(f"policy.{name} is {value!r}", allowed=allowed)
