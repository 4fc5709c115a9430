"""What every policy is: something that samples completions with a numbered set of weights.

    requests (token ids in) -> generate -> rollouts (token ids and log-probs out)

Tokens go in and come out as ids, so nothing is ever tokenized twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engine.errors import InputError
from rl.types import Request, Rollout

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Setup:
    """What a policy is built from in a run.

    `model` is trained, `model_path` is the folder that it came from, `autocast` the trainer's. `sampling`: the
    config's `policy:` section. `folder`: for what the policy wants to write. Of several trainer processes one
    `is_main`, and all have the same token `run`. `say` takes a line for people.
    """

    model: Any
    tokenizer: Any
    model_path: str
    autocast: str | None
    sampling: Any
    folder: Path | None
    is_main: bool
    run: str
    say: Callable[[str], None] | None


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
    `samples_trained_model`: whether the model that is trained samples itself, so that no two computations of a
    log-prob can differ.

    The class methods answer before anything is loaded; `sampling` is the config's `policy:` section.
    """

    version: int = 0
    samples_trained_model: ClassVar[bool] = False

    @classmethod
    def of(cls, setup: Setup) -> Policy:
        """The policy of a run; those that a config can name give it."""
        raise NotImplementedError

    @classmethod
    def missing(cls, sampling: Any) -> list[str]:
        """What this policy needs and this machine lacks, a sentence each; empty where it can run."""
        return []

    @classmethod
    def is_preferred(cls, sampling: Any) -> bool:
        """Whether `policy.engine: auto` means this one here."""
        return False

    @classmethod  # noqa: B027 - most can do all that is asked
    def require(cls, sampling: Any, place: Callable[..., str]) -> None:
        """Raise ConfigError for what the section asks and this policy cannot do; place("top_p") is where it says so."""

    @classmethod
    def summary(cls, sampling: Any) -> str:
        """Who samples, on one line, for people."""
        return cls.__name__

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[list[Rollout]]:
        """The n rollouts of each request, in the order of the requests."""

    @abstractmethod
    def sync(self, state: nn.Module | Mapping[str, Tensor] | None, version: int) -> None:
        """Sample with these weights from now on; they are number `version`."""

    def generate_beside(
        self, requests: Sequence[Request], models: Iterable[nn.Module], version: int
    ) -> list[list[list[Rollout]]]:
        """The rollouts of the same requests by each of several models, in their order.

        models: gives the trained model again and again, each time with other weights, which it has until the next is
        taken. version: the number of the first one's. Here one after the other; a policy that holds several sets of
        weights asks all at once. Which weights sample afterwards is not said: sync.
        """
        found = []
        for number, model in enumerate(models, version):
            self.sync(model, number)
            found.append(self.generate(requests))
        return found

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
