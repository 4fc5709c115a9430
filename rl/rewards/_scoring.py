"""Groups get their rewards: every function on every group, failures kept apart from faults.

A call that raises is data: its rollouts have no value of that function, and the reason stands in
`group.meta["reward_errors"]`. A fault of the set-up (a column that is not there, a result of the
wrong length or type, a function that fails everywhere with a programming error) raises.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EnvironmentMissing, InputError, LLMUnavailable
from rl.rewards._loading import GIVEN, Reward, load_rewards
from rl.rewards.base import missing_column
from rl.types import Group

Outcome = list[float | None] | Exception

_BUGS = (TypeError, NameError, AttributeError, KeyError, ImportError, SyntaxError)
"""Exceptions that mean a mistake in the function when every call raises them."""


class Scorer:
    """The rewards of a config, ready to score groups.

    near: the config file, or its folder, beside which "file.py:function" is looked up first.
    `failures`: reward -> the rollouts that it failed on in the last call.
    """

    def __init__(self, specs: Sequence[Any], *, near: Path | None = None) -> None:
        self.rewards = load_rewards(specs, near)
        self.failures: dict[str, int] = {}

    def __call__(self, groups: Sequence[Group]) -> None:
        """Fill rewards, reward_parts and answers of the groups. See score_groups."""
        self.failures = score_groups(groups, self.rewards)


def score_groups(groups: Sequence[Group], rewards: Sequence[Reward]) -> dict[str, int]:
    """Fill rewards, reward_parts and answers of the groups; returns reward -> rollouts that it failed on.

    The reward of a rollout is the weighted sum of the values that are not None; None where all are.
    Rollouts that are errors themselves are not shown to the functions and have none. `answers` are
    those of the first function that can extract them. Raises DataError for a missing column and
    InputError for a result that is not a list of numbers, one a rollout.
    """
    calls = [_Call.of(group) for group in groups]
    for reward in rewards:
        for call in calls:
            for name in reward.needed:
                if name not in call.columns:
                    raise missing_column(reward.name, name, call.columns)
    outcomes = _run(calls, rewards)
    for reward in rewards:
        _refuse_bug(reward, calls, outcomes[reward.name])
    for i, call in enumerate(calls):
        _fill(call, {reward: outcomes[reward.name][i] for reward in rewards})
    return {
        r.name: sum(len(c.rows) for c, o in zip(calls, outcomes[r.name], strict=True) if isinstance(o, Exception))
        for r in rewards
    }


@dataclass(frozen=True)
class _Call:
    """What the functions are given for one group: its rollouts that are not errors, by index `rows`."""

    group: Group
    rows: list[int]
    completions: list[Any]
    columns: Mapping[str, Any]

    @classmethod
    def of(cls, group: Group) -> _Call:
        rows = [i for i, rollout in enumerate(group.rollouts) if rollout.finish_reason != "error"]
        texts = [group.rollouts[i].text for i in rows]
        is_chat = not isinstance(group.prompt.prompt, str)
        completions = [[{"role": "assistant", "content": text}] for text in texts] if is_chat else texts
        # As in TRL: these names are taken.
        taken = (*GIVEN, "prompt", "completion")
        return cls(group, rows, completions, {k: v for k, v in group.prompt.columns.items() if k not in taken})

    def arguments(self, reward: Reward) -> dict[str, Any]:
        """TRL's arguments: a list entry a rollout."""
        count = len(self.rows)
        given = {
            "prompts": [self.group.prompt.prompt] * count,
            "completions": self.completions,
            "completion_ids": [list(self.group.rollouts[i].completion_ids) for i in self.rows],
        }
        return reward.arguments(given | {name: [value] * count for name, value in self.columns.items()})


def _run(calls: Sequence[_Call], rewards: Sequence[Reward]) -> dict[str, list[Outcome]]:
    """reward -> the outcome of every call. Coroutines and functions with workers run beside the others."""
    beside = [r for r in rewards if _is_async(r.function) or r.workers > 1]
    outcomes: dict[str, list[Outcome]] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(beside)), thread_name_prefix="reward") as pool:
        waiting = {r.name: pool.submit(_beside, r, calls) for r in beside}
        for reward in rewards:
            if reward not in beside:
                outcomes[reward.name] = [_outcome(reward, call) for call in calls]
        outcomes |= {name: future.result() for name, future in waiting.items()}
    return outcomes


def _beside(reward: Reward, calls: Sequence[_Call]) -> list[Outcome]:
    """All calls of one function, several at once."""
    if _is_async(reward.function):
        return asyncio.run(_gather(reward, calls))
    with ThreadPoolExecutor(max_workers=reward.workers, thread_name_prefix="reward") as pool:
        return list(pool.map(lambda call: _outcome(reward, call), calls))


async def _gather(reward: Reward, calls: Sequence[_Call]) -> list[Outcome]:
    async def outcome(call: _Call) -> Outcome:
        if not call.rows:
            return []
        try:
            return _values(reward, call, await reward.function(**call.arguments(reward)))
        except Exception as error:
            return _as_data(error)

    return list(await asyncio.gather(*(outcome(call) for call in calls)))


def _outcome(reward: Reward, call: _Call) -> Outcome:
    """What one call gave: values, or the exception that is data."""
    if not call.rows:
        return []
    try:
        return _values(reward, call, reward.function(**call.arguments(reward)))
    except Exception as error:
        return _as_data(error)


def _as_data(error: Exception) -> Exception:
    """The exception, unless it says that the set-up is wrong: then it is raised."""
    if isinstance(error, InputError | EnvironmentMissing) and not isinstance(error, LLMUnavailable):
        raise error
    return error


def _values(reward: Reward, call: _Call, result: Any) -> list[float | None]:
    """The result as numbers and None, one a rollout; NaN counts as None. Raises InputError."""
    expected = f"a list of {len(call.rows)} numbers or None, one a completion"
    try:
        items = list(result)
        values = [None if item is None else float(item) for item in items]
    except (TypeError, ValueError):
        raise InputError(f"the reward '{reward.name}' returned {result!r:.120}", allowed=expected) from None
    if len(values) != len(call.rows) or any(isinstance(item, str) for item in items):
        raise InputError(
            f"the reward '{reward.name}' returned {len(values)} values: {result!r:.80}",
            allowed=f"{expected}; it was given the columns {', '.join(sorted(call.columns)) or '(none)'}",
        )
    if any(value is not None and math.isinf(value) for value in values):
        raise InputError(f"the reward '{reward.name}' returned an infinite value", allowed="finite numbers or None")
    return [None if value is None or math.isnan(value) else value for value in values]


def _refuse_bug(reward: Reward, calls: Sequence[_Call], outcomes: Sequence[Outcome]) -> None:
    """Raise InputError if every call failed with one and the same kind of programming error."""
    shown = [outcome for call, outcome in zip(calls, outcomes, strict=True) if call.rows]
    if shown and len({type(o) for o in shown}) == 1 and isinstance(shown[0], _BUGS):
        raise InputError(
            f"the reward '{reward.name}' failed on every prompt: {_reason(shown[0])}",
            allowed=f"the columns that it is given: {', '.join(sorted(calls[0].columns)) or 'none'}",
            next_step="correct the function; ENGINE_DEBUG=1 shows the traceback",
        ) from shown[0]


def _fill(call: _Call, outcomes: Mapping[Reward, Outcome]) -> None:
    """Write parts, weighted sums, answers and reasons into the group."""
    group, count = call.group, len(call.group.rollouts)
    group.reward_parts = {}
    for reward, outcome in outcomes.items():
        values: list[float | None] = [None] * count
        if not isinstance(outcome, Exception):
            for row, value in zip(call.rows, outcome, strict=True):
                values[row] = value
        group.reward_parts[reward.name] = values
    errors = {r.name: _reason(o) for r, o in outcomes.items() if isinstance(o, Exception)}
    if errors:
        group.meta["reward_errors"] = errors
    weights = {reward.name: reward.weight for reward in outcomes}
    group.rewards = [_total([(weights[n], v[i]) for n, v in group.reward_parts.items()]) for i in range(count)]
    group.answers = _answers(call, list(outcomes))


def _total(parts: Sequence[tuple[float, float | None]]) -> float | None:
    known = [weight * value for weight, value in parts if value is not None]
    return sum(known) if known else None


def _answers(call: _Call, rewards: Sequence[Reward]) -> list[str | None]:
    """What the first function that can extract answers read in every rollout."""
    answers: list[str | None] = [None] * len(call.group.rollouts)
    reward = next((r for r in rewards if r.extract is not None), None)
    if reward is None or reward.extract is None:
        return answers
    row = {**call.columns, **reward.options}
    for i, completion in zip(call.rows, call.completions, strict=True):
        try:
            answers[i] = reward.extract(completion, **row)
        except Exception as error:
            group_errors = call.group.meta.setdefault("reward_errors", {})
            group_errors[f"{reward.name}.extract"] = _reason(error)
    return answers


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
