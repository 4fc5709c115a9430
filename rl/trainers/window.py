"""A batch of rollouts and the updates that are made from it: the window of accumulation and reuse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from rl.types import Group, Prompt, Rollout

_ADVANTAGES = "advantages/"


@dataclass
class Window:
    """The rollouts of P prompts with their advantages, used for `updates` optimizer updates.

    Rows are the completions of the first group, then those of the second, and so on: B of them. `advantages`:
    name -> (P, G) or (P, G, T). `old_logprobs`, `ref_logprobs`: (B, T), zero where they were not needed; None
    before they are known. `minibatches`: the groups are cut into so many parts, equal but for one, an update each,
    over and over. `metrics`: the method's own, of this batch.
    """

    number: int
    groups: list[Group]
    advantages: dict[str, Tensor]
    updates: int
    minibatches: int = 1
    done: int = 0
    seconds: float = 0.0
    old_logprobs: Tensor | None = None
    ref_logprobs: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def oldest_version(self) -> int:
        """The number of the oldest weights that sampled a rollout of it."""
        return min(rollout.weight_version for group in self.groups for rollout in group.rollouts)

    @property
    def is_spent(self) -> bool:
        return self.done >= self.updates

    @property
    def longest(self) -> int:
        """T: the tokens of the longest completion, at least 1."""
        return max(1, max(len(r.completion_ids) for group in self.groups for r in group.rollouts))

    def minibatch(self) -> list[int]:
        """The indices of the groups of the next update."""
        part, count = self.done % self.minibatches, len(self.groups)
        return list(range(count * part // self.minibatches, count * (part + 1) // self.minibatches))

    @property
    def rows(self) -> int:
        """B: all completions."""
        return sum(len(group.rollouts) for group in self.groups)

    def row_numbers(self, rows: Iterable[tuple[int, int]]) -> Tensor:
        """The places of (group, completion) pairs among all rows."""
        first = [0, *accumulate(len(group.rollouts) for group in self.groups)]
        return torch.tensor([first[g] + i for g, i in rows])

    def prompt_ids(self, group: int, completion: int) -> tuple[int, ...]:
        """The prompt that this completion was sampled under."""
        return self.groups[group].rollouts[completion].prompt_ids or self.groups[group].prompt_ids

    def tokens(self, groups: Iterable[int]) -> int:
        """Completion tokens of these groups."""
        return sum(len(r.completion_ids) for g in groups for r in self.groups[g].rollouts)

    def signal_rows(self, group: int) -> list[int]:
        """The completions of a group with a token and an advantage other than 0."""
        rollouts = self.groups[group].rollouts
        named = [values[group].unsqueeze(1).flatten(1).any(1) for values in self.advantages.values()]
        has_signal = torch.stack(named).any(0)
        return [i for i, rollout in enumerate(rollouts) if rollout.completion_ids and has_signal[i]]

    def token_rows(self, group: int) -> list[int]:
        """The completions of a group with a token."""
        return [i for i, rollout in enumerate(self.groups[group].rollouts) if rollout.completion_ids]

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON and tensors from which `from_state` makes the same window."""
        record = {
            "number": self.number,
            "updates": self.updates,
            "minibatches": self.minibatches,
            "done": self.done,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "groups": [dataclasses.asdict(group) for group in self.groups],
        }
        named = {"old_logprobs": self.old_logprobs, "ref_logprobs": self.ref_logprobs}
        advantages = {f"{_ADVANTAGES}{name}": tensor for name, tensor in self.advantages.items()}
        return record, advantages | {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_state(cls, record: dict[str, Any], tensors: dict[str, Tensor]) -> Window:
        groups = [group_from(item) for item in record["groups"]]
        advantages = {k.removeprefix(_ADVANTAGES): v for k, v in tensors.items() if k.startswith(_ADVANTAGES)}
        others = {k: v for k, v in tensors.items() if not k.startswith(_ADVANTAGES)}
        return cls(**{**record, "groups": groups, "advantages": advantages, **others})

    def statistics(self) -> dict[str, float]:
        """What the rollouts were like: rewards, the share of groups with signal, tokens a completion, the share
        cut off at the limit, and how many `failed`: have no reward, for want of a completion or of a verdict."""
        rollouts = [rollout for group in self.groups for rollout in group.rollouts]
        rewards = [reward for group in self.groups for reward in group.rewards]
        known = torch.tensor([reward for reward in rewards if reward is not None])
        has_signal = [bool(self.signal_rows(g)) for g in range(len(self.groups))]
        row = {
            "reward_mean": float(known.mean()) if len(known) else None,
            "reward_std": float(known.std()) if len(known) > 1 else None,
            "signal": sum(has_signal) / len(has_signal),
            "length_mean": sum(len(r.completion_ids) for r in rollouts) / len(rollouts),
            "truncated": sum(r.finish_reason == "length" for r in rollouts) / len(rollouts),
            "failed": len(rewards) - len(known),
        }
        names = dict.fromkeys(name for group in self.groups for name in group.reward_parts)
        return {k: v for k, v in row.items() if v is not None} | {f"reward/{n}": self._part_mean(n) for n in names}

    @staticmethod
    def failure(group: Group, i: int) -> str | None:
        """Why a completion has no reward; None where it has one."""
        if group.rewards[i] is not None:
            return None
        reasons = group.meta.get("reward_errors", {})
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return group.rollouts[i].error or told or "no reward function had an opinion"

    def failures(self) -> dict[str, str]:
        """{"failure": the first reason why a completion has no reward}, or nothing."""
        rows = ((group, i) for group in self.groups for i in range(len(group.rewards)))
        reason = next((reason for group, i in rows if (reason := self.failure(group, i))), None)
        return {"failure": reason} if reason else {}

    def _part_mean(self, name: str) -> float:
        values = [v for group in self.groups for v in group.reward_parts.get(name, []) if v is not None]
        return sum(values) / len(values) if values else math.nan


def padded(rows: Sequence[Tensor], length: int) -> Tensor:
    """(B, length) of one-dimensional tensors, zeros on the right."""
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row))) for row in rows])


def group_from(item: dict[str, Any]) -> Group:
    """The group of which `item` is dataclasses.asdict, after JSON."""
    rollouts = [Rollout(**{name: _from_json(name, value) for name, value in r.items()}) for r in item["rollouts"]]
    return Group(
        **{
            **item,
            "prompt": Prompt(**item["prompt"]),
            "prompt_ids": tuple(item["prompt_ids"]),
            "rollouts": rollouts,
        }
    )


def _from_json(name: str, value: Any) -> Any:
    """A rollout's field: JSON has lists where it has tuples."""
    return tuple(value) if name in ("completion_ids", "logprobs", "prompt_ids") and value is not None else value
