"""Six cells in the paper's form: a scripted policy proposes and solves all three tasks, and knows how well."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rl.methods.azr import METHOD, AzrConfig
from rl.rewards import load_reward, score_groups
from rl.sources.triplets import Triplets, TripletsConfig
from rl.triplets import TASKS, Triplet
from rl.types import Group, Prompt, Rollout

TRIPLE = "def f(a):\n    return 3 * a"


def block(kind: str, *texts: str) -> str:
    return "".join(f"```{kind}\n{text}\n```\n" for text in texts)


def tagged(answer: str) -> str:
    return f"<think>hm</think>\n<answer>\n{answer}</answer>"


def proposal(task: str, number: int) -> str:
    """A valid proposal; for induction of whatever program is asked about, since 1, 2, ... fit them all."""
    if task == "induction":
        return tagged(block("input", *(str(number * 100 + i) for i in range(4))) + block("message", "it triples"))
    return tagged(block("python", TRIPLE) + block("input", str(number)))


def solution(triplet: Triplet, is_right: bool) -> str:
    right = {
        "deduction": block("output", triplet.outputs[0]),
        "abduction": block("input", triplet.inputs[0]),
        "induction": block("python", triplet.program),
    }
    wrong = {
        "deduction": block("output", "'no'"),
        "abduction": block("input", "'no'"),
        "induction": block("python", ""),
    }
    return tagged((right if is_right else wrong)[triplet.task])


class Scripted:
    """Tools whose policy is right with a known chance a task."""

    def __init__(self, source: Triplets, skill: Callable[[Triplet], float], seed: int) -> None:
        self.source, self.skill, self.step, self.draws = source, skill, 0, random.Random(seed)

    def sample(self, prompts: Sequence[Prompt], n: int, **sampling: Any) -> list[Group]:
        found = []
        for prompt in prompts:
            triplet = Triplet.of(prompt.columns["triplet"])
            texts = [solution(triplet, self.draws.random() < self.skill(triplet)) for _ in range(n)]
            found.append(Group(prompt, (1,), [Rollout((5,), (-1.0,), text, "stop") for text in texts]))
        score_groups(found, [load_reward("triplet")])
        return found

    def shared(self, items: Sequence[Any], compute: Callable[[Sequence[Any]], Sequence[Any]]) -> list[Any]:
        return list(compute(items))


def groups(source: Triplets) -> list[Group]:
    """A request for each task, answered with two proposals and one text out of form."""
    found = []
    for place, prompt in enumerate(source.batch(3)):
        task = prompt.columns["triplet"]["task"]
        texts = [proposal(task, 2 * place + 1), proposal(task, 2 * place + 2), "a triplet, I think"]
        found.append(Group(prompt, (1, 2), [Rollout((5, 6), (-1.0,) * 2, text, "stop") for text in texts]))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_three_tasks_are_proposed_solved_and_paid_for(seed: int) -> None:
    skill = {"deduction": 0.75, "abduction": 0.5, "induction": 0.25}
    source = Triplets(TripletsConfig(inputs=4, held_out=None))
    assert [len(source.buffers[task]) for task in TASKS] == [1, 1, 1]  # the identity of "Hello world"
    method = METHOD(AzrConfig(samples=60, replay=1))
    found = method.prepare(groups(source), Scripted(source, lambda t: skill[t.task], seed))
    cells = {f"{role}/{task}" for role in ("propose", "solve") for task in TASKS}
    assert {group.meta["cell"] for group in found} == cells
    for task in TASKS:
        [proposed] = [group for group in found if group.meta["cell"] == f"propose/{task}"]
        # 60 samples: s within three and a half standard errors of the skill
        paid = [1 - skill[task]] * 2
        assert proposed.rewards[:2] == pytest.approx(paid, abs=3.5 * (skill[task] * (1 - skill[task]) / 60) ** 0.5)
        assert proposed.rewards[2] == -1.0
        assert [len(g.rollouts) for g in found if g.meta["cell"] == f"solve/{task}"] == [
            60
        ] * 3  # two new, one replayed
        assert len(source.buffers[task]) == 3 and method.metrics[f"azr/buffer/{task}"] == 3
        assert method.metrics[f"azr/success/{task}"] == pytest.approx(skill[task], abs=0.13)
        assert method.metrics[f"azr/learnable/{task}"] == 1
        assert method.metrics[f"azr/count/propose/{task}"] == 3 and method.metrics[f"azr/count/solve/{task}"] == 180
    assert method.metrics["azr/valid"] == pytest.approx(6 / 9) and method.metrics["azr/refused/format"] == 3


@pytest.mark.parametrize("task", TASKS)
def test_a_cell_is_whitened_whatever_the_others_earn(task: str) -> None:
    """Mean 0 and unbiased variance 1 over the tokens of the cell."""
    source = Triplets(TripletsConfig(inputs=4, held_out=None))
    method = METHOD(AzrConfig(samples=8))
    found = method.prepare(groups(source), Scripted(source, lambda t: 0.5 if t.task == task else 0.0, 0))
    advantages = method.advantages(found)
    for role in ("propose", "solve"):
        rows = [i for i, group in enumerate(found) if group.meta["cell"] == f"{role}/{task}"]
        tokens = [
            float(advantages[i, j])
            for i in rows
            for j, rollout in enumerate(found[i].rollouts)
            for _ in rollout.completion_ids
        ]
        assert statistics.mean(tokens) == pytest.approx(0, abs=1e-5)
        assert statistics.variance(tokens) == pytest.approx(1, abs=1e-5)
    others = [
        i for i, g in enumerate(found) if g.meta["cell"].startswith("solve/") and not g.meta["cell"].endswith(task)
    ]
    assert others and not advantages[others].any()  # all wrong: nothing to learn


def test_an_induction_is_of_a_program_that_the_other_buffers_hold() -> None:
    source = Triplets(TripletsConfig(held_out=None, tasks=("induction",)))
    assert "return a" in source.batch(1)[0].columns["triplet"]["program"]
    source.buffers["deduction"].add(Triplet("deduction", TRIPLE, ("1",), "", ("3",)))
    asked = {prompt.columns["triplet"]["program"] for prompt in source.batch(40)}
    assert asked == {"def f(a):\n    return a", TRIPLE}
    assert all(prompt.columns["triplet"]["program"] in prompt.prompt[0]["content"] for prompt in source.batch(5))


def test_the_hidden_part_is_not_in_the_question() -> None:
    source = Triplets(TripletsConfig(held_out=None))
    hidden = {"deduction": "11223344", "abduction": "'secret'", "induction": "11223344"}
    for task in TASKS:
        inputs = ("'secret'",) if task == "abduction" else ("1", "2", "3", "4")
        outputs = ("11223344",) * len(inputs) if task == "deduction" else ("5", "6", "7", "11223344")[: len(inputs)]
        question = source.question(Triplet(task, "def f(a): ...", inputs, "", outputs))
        assert hidden[task] not in str(question.prompt)


def test_repeats_are_solved_once_and_earn_the_same() -> None:
    source = Triplets(TripletsConfig(held_out=None, tasks=("deduction",)))
    [prompt] = source.batch(1)
    commented = tagged(block("python", "def f(a):  # the same\n    return (3 * a)") + block("input", " 5"))
    texts = [proposal("deduction", 5), commented, proposal("deduction", 5), proposal("deduction", 6)]
    group = Group(prompt, (1,), [Rollout((5,), (-1.0,), text, "stop") for text in texts])
    method = METHOD(AzrConfig())
    found = method.prepare([group], Scripted(source, lambda t: 0.5, 4))
    assert len(found) == 1 + 2
    assert group.rewards[0] == group.rewards[1] == group.rewards[2]
    assert method.metrics["azr/new"] == 2 and method.metrics["azr/duplicates"] == 2
    again = Group(source.batch(1)[0], (1,), group.rollouts)
    assert len(method.prepare([again], Scripted(source, lambda t: 0.5, 5))) == 1 + 2  # measured anew
    assert method.metrics["azr/new"] == 0 and len(source.buffers["deduction"]) == 3
