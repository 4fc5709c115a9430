"""Absolute Zero: what proposals and solutions earn, how cells are whitened, and the loop with a scripted policy."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from engine.errors import ConfigError, InputError
from rl.methods.azr import METHOD, Azr, AzrConfig, cell_advantages, composite_reward, learnability_reward
from rl.rewards import load_reward, score_groups
from rl.sources.triplets import Triplets, TripletsConfig
from rl.triplets import Triplet
from rl.types import Group, Prompt, Rollout


def test_learnability_is_highest_at_the_hardest_task_that_is_still_solved():
    """1 - s for 0 < s < 1, else 0: with 8 samples 7/8 at one success, 1/2 at half, nothing at none and at all."""
    rates = [k / 8 for k in range(9)]
    assert [learnability_reward(rate) for rate in rates] == [0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]
    torch.testing.assert_close(
        learnability_reward(torch.tensor([[0.0, 0.25], [0.5, 1.0]])), torch.tensor([[0.0, 0.75], [0.5, 0.0]])
    )
    with pytest.raises(InputError, match="success rate"):
        learnability_reward(1.5)


def test_a_proposer_earns_most_in_expectation_at_a_quarter_not_at_one_half() -> None:
    """(1-p) - (1-p)^8, whose derivative is 0 at 1 - p = 8^(-1/7), p = .257."""

    def expected(p: float) -> float:
        chances = [math.comb(8, k) * p**k * (1 - p) ** (8 - k) for k in range(9)]
        return sum(c * learnability_reward(k / 8) for k, c in enumerate(chances))

    grid = [i / 1000 for i in range(1001)]
    assert max(grid, key=expected) == pytest.approx(1 - 8 ** (-1 / 7), abs=1e-3)
    assert expected(0.3) == pytest.approx(0.7 - 0.7**8)
    assert expected(0.0) == expected(1.0) == 0


def test_composite_rewards_are_the_papers():
    assert [composite_reward(r, is_formed=True) for r in (0.875, 1.0, 0.0)] == [0.875, 1.0, -0.5]
    assert composite_reward(1.0, is_formed=False) == -1.0


def test_cells_are_whitened_by_themselves():
    """By hand: cell a has 1, 0, 0.5 (mean 1/2, unbiased sd 1/2), cell b 10 and 20 (sd 10/sqrt 2), cell c one reward."""
    rewards = torch.tensor([1.0, 10.0, 0.0, 20.0, 0.5, 3.0, float("nan")])
    found = cell_advantages(rewards, ["a", "b", "a", "b", "a", "c", "a"])
    root = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([1.0, -root, -1.0, root, 0.0, 0.0, 0.0]))


def test_with_a_mask_each_token_counts():
    """As if each token had its completion's reward: torch's own mean and std over the repeated rewards."""
    rewards, lengths = torch.tensor([1.0, 0.0, -1.0]), [3, 1, 2]
    mask = torch.tensor([[1.0] * n + [0.0] * (3 - n) for n in lengths])
    tokens = torch.tensor([r for r, n in zip(rewards.tolist(), lengths, strict=True) for _ in range(n)])
    expected = (rewards - tokens.mean()) / tokens.std()
    torch.testing.assert_close(cell_advantages(rewards, ["x"] * 3, mask), expected)
    assert not cell_advantages(torch.ones(3), ["x"] * 3, mask).any()
    with pytest.raises(InputError, match="2 cells"):
        cell_advantages(rewards, ["x"] * 2)


SETTINGS: dict[str, Any] = {
    "form": "line",
    "chat": False,
    "tasks": ("deduction",),
    "held_out": "one_line",
    "seeds": ({"program": "def f(x): return max(x, 7)", "inputs": ["3", "9", "5", "1"]},),
}


class Scripted:
    """Tools whose policy solves a task with a chance that depends on its program. `asked`: all that was sampled."""

    def __init__(self, source: Triplets, skill: Callable[[Triplet], float], seed: int = 0) -> None:
        self.source, self.skill, self.step, self.draws = source, skill, 0, random.Random(seed)
        self.asked: list[Prompt] = []

    def sample(self, prompts: Sequence[Prompt], n: int, **sampling: Any) -> list[Group]:
        self.asked += prompts
        groups = []
        for prompt in prompts:
            triplet = Triplet.of(prompt.columns["triplet"])
            texts = [f" {triplet.outputs[0] if self.draws.random() < self.skill(triplet) else -1}\n" for _ in range(n)]
            groups.append(Group(prompt, (1,), [Rollout((5, 6), (-1.0, -1.0), text, "stop") for text in texts]))
        score_groups(groups, [load_reward("triplet")])
        return groups

    def shared(self, items: Sequence[Any], compute: Callable[[Sequence[Any]], Sequence[Any]]) -> list[Any]:
        return list(compute(items))


def proposals(source: Triplets, texts: Sequence[str]) -> list[Group]:
    """One request for proposals, answered with these texts."""
    [prompt] = source.batch(1)
    rollouts = [Rollout((5, 6, 7), (-1.0,) * 3, text, "stop") for text in texts]
    groups = [Group(prompt, (1, 2), rollouts)]
    score_groups(groups, [load_reward("triplet")])
    return groups


def azr(**settings: Any) -> Azr:
    return METHOD(AzrConfig(**settings))


def test_a_step_rewards_valid_new_proposals_by_their_solvers_and_reuses_these():
    """The solver is right half of the time on `min`, always on `x`; 200 samples, so 1/2 comes out within .15.
    Two of the batch propose the same, and share the 1/2."""
    source = Triplets(TripletsConfig(**SETTINGS))
    held = len(source.buffers["deduction"])
    texts = [
        " min(x, 30) # f(41)",  # valid and half solvable
        " x # f(33)",  # valid and too easy
        " min(x, 30) # f(41)",  # the same again
        " max(x, 7) # f(3)",  # in the buffer already
        "\n",  # nothing: not of the form
        " x / 0 # f(4)",  # of the form, fails
        " hash('a') # f(4)",  # another value in each process
    ]
    groups = proposals(source, texts)
    tools = Scripted(source, lambda triplet: 0.5 if "min" in triplet.program else 1.0)
    method = azr(samples=200)
    found = method.prepare(groups, tools)
    [proposed] = [group for group in found if group.meta["cell"] == "propose/deduction"]
    solved = [group for group in found if group.meta["cell"] == "solve/deduction"]
    assert proposed.rewards[0] == pytest.approx(0.5 / 2, abs=0.08) and proposed.rewards[1] == -0.5
    assert proposed.rewards[2] == proposed.rewards[0] and proposed.rewards[4:] == [-1.0, -0.5, -0.5]
    assert {len(group.rollouts) for group in solved} == {200}
    by_program = {Triplet.of(group.prompt.columns["triplet"]).program: group for group in solved}
    assert set(by_program["def f(x): return x"].rewards) == {1.0}
    assert set(by_program["def f(x): return min(x, 30)"].rewards) == {1.0, -0.5}
    assert len(source.buffers["deduction"]) == held + 2  # only valid and new ones
    assert method.metrics["azr/valid"] == pytest.approx(4 / 7) and method.metrics["azr/new"] == 2
    assert method.metrics["azr/buffer/deduction"] == held + 2
    advantages = method.advantages(found)
    assert advantages.shape == (len(found), 200) and bool(advantages.isfinite().all())
    place = found.index(proposed)
    assert advantages[place, 0] > advantages[place, 1] > advantages[place, 4] and not advantages[place, 7:].any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_tasks_with_a_known_skill_the_hard_but_solvable_ones_earn_most(seed: int):
    """Skills 0, 1/8, 1/2, 7/8, 1 and 200 samples: earnings fall with skill, and are nothing at both ends."""
    source = Triplets(TripletsConfig(**SETTINGS))
    numbers = {11: 0.0, 22: 0.125, 33: 0.5, 44: 0.875, 55: 1.0}
    groups = proposals(source, [f" {number} # f(12)" for number in numbers])
    tools = Scripted(source, lambda t: numbers[int(t.program.rpartition(" ")[2])], seed)
    [proposed] = [g for g in azr(samples=200).prepare(groups, tools) if g.meta["cell"].startswith("propose")]
    none, hard, half, easy, all_right = proposed.rewards
    assert none == all_right == -0.5
    assert hard > half > easy > 0  # type: ignore[operator]
    assert hard == pytest.approx(7 / 8, abs=0.1) and half == pytest.approx(1 / 2, abs=0.12)


def test_what_is_measured_on_is_never_trained_on():
    source = Triplets(TripletsConfig(**SETTINGS))
    held_out = source.held_out[0]
    body = held_out.program.removeprefix("def f(x): return")
    groups = proposals(source, [f"{body} # f({held_out.inputs[0]})"])
    tools = Scripted(source, lambda triplet: 0.5)
    found = azr().prepare(groups, tools)
    assert found[0].rewards == [None] and tools.asked == [] and held_out not in source.buffers["deduction"]
    assert held_out.key in {Triplet.of(p.columns["triplet"]).key for p in source.evaluation()["held_out"]}


def test_buffers_survive_a_checkpoint_and_forget_the_oldest():
    source = Triplets(TripletsConfig(**SETTINGS, size=3))
    tools = Scripted(source, lambda triplet: 0.5)
    azr().prepare(proposals(source, [f" {k} # f(4)" for k in (91, 92, 93, 94)]), tools)
    programs = [triplet.program for triplet in source.buffers["deduction"]]
    assert programs == [f"def f(x): return {k}" for k in (92, 93, 94)]
    state = json.loads(json.dumps(source.state_dict()))
    other = Triplets(TripletsConfig(**SETTINGS, size=3), seed=9)
    other.load_state_dict(state)
    assert [triplet.program for triplet in other.buffers["deduction"]] == programs
    assert other.batch(3) == source.batch(3)


def test_another_source_is_refused():
    class Other(Scripted):
        source: Any = object()

    tools = Other(Triplets(TripletsConfig(**SETTINGS)), lambda triplet: 0.5)
    tools.source = object()
    with pytest.raises(ConfigError, match=r"source\.kind(.|\n)*triplets"):
        azr().prepare([], tools)
