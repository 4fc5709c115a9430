"""Windows: their minibatches, their statistics, and their way through a checkpoint."""

from __future__ import annotations

import json

import pytest
import torch

from rl.trainers.window import Window
from rl.types import Group, Prompt, Rollout


def make() -> Window:
    def group(name: str, rewards: list[float | None]) -> Group:
        rollouts = [
            Rollout((1, 2), (-0.5, -0.25), "ab", "stop", 3),
            Rollout((4,), (-1.0,), "c", "length", 3),
            Rollout((), (), "", "error", 3, "too long"),
        ]
        prompt = Prompt(name, "q", {"answer": "4"})
        return Group(prompt, (7, 8), rollouts, rewards, {"r": list(rewards)}, ["4", None, None])

    groups = [group("a", [1.0, 0.0, None]), group("b", [0.5, 0.5, None])]
    return Window(5, groups, torch.tensor([[0.7, -0.7, 0.0], [0.0, 0.0, 0.0]]), 4, 2, old_logprobs=torch.randn(6, 2))


def test_it_comes_back_from_json_as_it_was() -> None:
    window = make()
    window.done = 3
    record, tensors = window.state_dict()
    again = Window.from_state(json.loads(json.dumps(record)), tensors)
    assert again.groups == window.groups
    assert (again.number, again.updates, again.minibatches, again.done) == (5, 4, 2, 3)
    assert torch.equal(again.advantages, window.advantages)
    assert again.old_logprobs is not None and window.old_logprobs is not None
    assert torch.equal(again.old_logprobs, window.old_logprobs)
    assert again.ref_logprobs is None


def test_minibatches_follow_each_other_over_and_over() -> None:
    window = make()
    seen = []
    while not window.is_spent:
        seen.append(window.minibatch())
        window.done += 1
    assert seen == [[0], [1], [0], [1]]


def test_statistics_are_those_of_a_hand_count() -> None:
    row = make().statistics()
    assert row["reward_mean"] == pytest.approx(0.5)
    assert row["reward_std"] == pytest.approx(0.5 / 1.5**0.5)  # of 1, 0, 0.5, 0.5, unbiased
    assert row["signal"] == 0.5
    assert row["length_mean"] == pytest.approx(1.0)
    assert row["truncated"] == pytest.approx(2 / 6)
    assert row["failed"] == 2
    assert row["reward/r"] == pytest.approx(0.5)


def test_rows_with_signal_have_tokens_and_an_advantage() -> None:
    window = make()
    assert [window.signal_rows(g) for g in (0, 1)] == [[0, 1], []]
    assert [window.token_rows(g) for g in (0, 1)] == [[0, 1], [0, 1]]
    assert window.tokens([0, 1]) == 6
    assert window.longest == 2
