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
    advantages = {"advantages": torch.tensor([[0.7, -0.7, 0.0], [0.0, 0.0, 0.0]]), "other": torch.zeros(2, 3, 2)}
    return Window(5, groups, advantages, 4, 2, old_logprobs=torch.randn(6, 2), metrics={"hints": 2.0})


def test_it_comes_back_from_json_as_it_was() -> None:
    window = make()
    window.done = 3
    record, tensors = window.state_dict()
    again = Window.from_state(json.loads(json.dumps(record)), tensors)
    assert again.groups == window.groups
    assert (again.number, again.updates, again.minibatches, again.done) == (5, 4, 2, 3)
    assert again.advantages.keys() == window.advantages.keys() and again.metrics == {"hints": 2.0}
    assert all(torch.equal(again.advantages[name], values) for name, values in window.advantages.items())
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


def test_parts_of_a_window_that_does_not_divide_evenly_hold_every_group_once() -> None:
    window = make()
    window.groups = window.groups * 2 + window.groups[:1]
    window.minibatches = window.updates = 3
    seen = []
    while not window.is_spent:
        seen.append(window.minibatch())
        window.done += 1
    assert sorted(g for part in seen for g in part) == [0, 1, 2, 3, 4] and all(seen)


def test_rows_of_groups_of_several_sizes_are_numbered_one_after_the_other() -> None:
    window = make()
    window.groups[0].rollouts = window.groups[0].rollouts[:1]
    assert window.rows == 4
    assert window.row_numbers([(0, 0), (1, 0), (1, 2)]).tolist() == [0, 1, 3]
