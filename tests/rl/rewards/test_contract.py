"""What every reward function does, whichever is installed."""

import math

import pytest

from engine.errors import UnknownName
from rl import rewards
from rl.rewards import load_reward, score_groups
from rl.types import Group, Prompt, Rollout

COLUMNS = {
    "answer": "7",
    "task": {"name": "chain_sum", "options": {"size": 1, "seed": 0}, "index": 0},
    "triplet": {
        "role": "solve",
        "form": "line",
        "task": "deduction",
        "program": "def f(x): return x",
        "inputs": ["7"],
        "message": "",
        "outputs": ["7"],
    },
}
TEXTS = ["7", "7\nand more", "", "\u2028 <answer>7</answer> \U0001f600", "x" * 5000]


def _group(prompt):
    rollouts = [Rollout((1,) * (i + 1), (0.0,) * (i + 1), text, "stop") for i, text in enumerate(TEXTS)]
    return Group(Prompt("p", prompt, COLUMNS), (1,), rollouts)


@pytest.mark.parametrize("name", rewards.names())
def test_texts_and_chats_get_the_same_finite_rewards(name):
    groups = [_group("3+4="), _group([{"role": "user", "content": "3+4="}])]
    assert score_groups(groups, [load_reward(name)]) == {name: 0}
    assert len(groups[0].rewards) == len(TEXTS)
    assert groups[0].rewards == groups[1].rewards
    assert groups[0].answers == groups[1].answers
    assert all(value is None or math.isfinite(value) for value in groups[0].rewards)
    assert groups[0].meta == {}


def test_an_unknown_reward_names_the_nearest_and_its_place():
    with pytest.raises(UnknownName, match=r"rewards\.1: no reward 'exact_mtch'. Did you mean 'exact_match'"):
        rewards.load_rewards(["length", "exact_mtch"])
