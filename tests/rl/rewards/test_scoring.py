"""Scoring groups: sums, None, failures as data, faults as errors, and functions of every kind."""

import asyncio
import threading

import pytest

from engine.errors import ConfigError, DataError, EnvironmentMissing, InputError, LLMUnavailable, UnknownName
from rl.rewards import Scorer, load_reward, load_rewards, score_groups
from rl.types import Group, Prompt, Rollout


def _group(texts, prompt="q", **columns):
    rollouts = [Rollout((5,) * len(t), (0.0,) * len(t), t, "stop") for t in texts]
    return Group(Prompt("p", prompt, columns), (1,), rollouts)


def constant(*values):
    return lambda completions, **kwargs: list(values[: len(completions)])


def test_rewards_are_weighted_sums_of_what_is_not_none():
    first, second = constant(1.0, None, None), constant(0.5, 2, None)
    first.__name__, second.__name__ = "first", "second"
    rewards = [load_reward({"name": "first", "function": first, "weight": 2.0}), load_reward(second)]
    group = _group(["a", "b", "c"])
    assert score_groups([group], rewards) == {"first": 0, "second": 0}
    assert group.rewards == [2.5, 2.0, None]
    assert group.reward_parts == {"first": [1.0, None, None], "second": [0.5, 2.0, None]}


def test_functions_are_called_as_trl_calls_them():
    seen = {}

    def spy(prompts, completions, completion_ids, answer, **kwargs):
        seen.update(prompts=prompts, completions=completions, completion_ids=completion_ids, answer=answer, **kwargs)
        return [0.0] * len(prompts)

    score_groups([_group(["a", "bb"], answer="x", level=3, prompt_ids=[1])], [load_reward(spy)])
    assert seen == {
        "prompts": ["q", "q"],
        "completions": ["a", "bb"],
        "completion_ids": [[5], [5, 5]],
        "answer": ["x", "x"],
        "level": [3, 3],
        "prompt_ids": [[1], [1]],
    }
    chat = [{"role": "user", "content": "q"}]
    score_groups([_group(["a"], prompt=chat, answer="x")], [load_reward(spy)])
    assert seen["prompts"] == [chat]
    assert seen["completions"] == [[{"role": "assistant", "content": "a"}]]


def test_a_function_may_take_only_what_it_reads():
    assert _scored(lambda completions: [float(len(c)) for c in completions], _group(["a", "bb"], answer="x")) == [1, 2]


def _scored(function, *groups):
    score_groups(groups, [load_reward(function)])
    return [reward for group in groups for reward in group.rewards]


def test_a_call_that_raises_is_data_and_costs_its_group_only():
    def fragile(completions, answer, **kwargs):
        if answer[0] == "bad":
            raise RuntimeError("judge is down")
        return [1.0] * len(completions)

    def steady(completions, **kwargs):
        return [0.25] * len(completions)

    groups = [_group(["a", "b"], answer="bad"), _group(["c"], answer="good")]
    scorer = Scorer([fragile, steady])
    scorer(groups)
    assert scorer.failures == {"fragile": 2, "steady": 0}
    assert [group.rewards for group in groups] == [[0.25, 0.25], [1.25]]
    assert groups[0].reward_parts["fragile"] == [None, None]
    assert groups[0].meta == {"reward_errors": {"fragile": "RuntimeError: judge is down"}}
    assert groups[1].meta == {}


def test_an_endpoint_that_is_down_is_data_and_a_missing_package_is_not():
    def judge(completions, error, **kwargs):
        raise error[0]

    assert _scored(judge, _group(["a"], error=LLMUnavailable("down"))) == [None]
    with pytest.raises(EnvironmentMissing):
        _scored(judge, _group(["a"], error=EnvironmentMissing("no package")))


def test_rollouts_that_are_errors_are_not_judged_and_have_no_reward():
    group = _group(["a", "b", "c"])
    group.rollouts[1] = Rollout((), (), "", "error", error="too long")
    assert _scored(lambda completions, **kwargs: [float(c == "c") for c in completions], group) == [0.0, None, 1.0]
    alone = Group(Prompt("p", "q"), (1,), [group.rollouts[1]])
    assert _scored(lambda completions, **kwargs: 1 / 0, alone) == [None]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ([1.0], "returned 1 values(.|\n)*a list of 2 numbers or None(.|\n)*columns answer"),
        ([1.0, 2.0, 3.0], "returned 3 values"),
        (None, "returned None"),
        (0.5, "returned 0.5"),
        (["1.0", "2.0"], "returned 2 values"),
        (["a", "b"], r"returned \['a', 'b'\]"),
        ([1.0, float("inf")], "infinite"),
    ],
)
def test_a_result_of_the_wrong_form_is_an_error_that_names_the_function(result, said):
    def mine(completions, **kwargs):
        return result

    with pytest.raises(InputError, match=f"the reward 'mine' (.|\n)*{said}" if "infinite" not in said else said):
        _scored(mine, _group(["a", "b"], answer=1))


def test_numbers_of_other_libraries_count_and_nan_is_none():
    import numpy
    import torch

    assert _scored(lambda completions, **kwargs: numpy.array([1, 2]), _group(["a", "b"])) == [1.0, 2.0]
    assert _scored(lambda completions, **kwargs: torch.tensor([1.5, float("nan")]), _group(["a", "b"])) == [1.5, None]
    assert _scored(lambda completions, **kwargs: [True, numpy.float32(0.5)], _group(["a", "b"])) == [1.0, 0.5]


def test_a_column_that_the_signature_names_must_be_there():
    def judge(completions, solution, **kwargs):
        return [1.0] * len(completions)

    with pytest.raises(
        DataError, match=r"'judge' needs the column 'solution'(.|\n)*columns of the source: answer, level"
    ):
        _scored(judge, _group(["a"], answer=1, level=2))


def test_a_function_that_fails_everywhere_with_a_bug_is_an_error():
    def buggy(completions, **kwargs):
        return [kwargs["gold"]]

    with pytest.raises(InputError, match=r"'buggy' failed on every prompt: KeyError: 'gold'(.|\n)*is given: answer"):
        _scored(buggy, _group(["a"], answer=1), _group(["b"], answer=2))


def test_answers_are_those_of_the_first_function_that_extracts():
    group = _group(["7\nnoise", ""], answer="7")
    score_groups([group], load_rewards(["length", "first_line_equals", "exact_match"]))
    assert group.answers == ["7", None]
    assert _answers(lambda completion, **row: 1 / 0) == (
        [None],
        {"reward_errors": {"mine.extract": "ZeroDivisionError: division by zero"}},
    )
    assert _answers(lambda completion, answer, **row: completion + answer) == (["a!"], {})


def _answers(extract):
    def mine(completions, **kwargs):
        return [0.0] * len(completions)

    mine.extract = extract
    group = _group(["a"], answer="!")
    score_groups([group], [load_reward(mine)])
    return group.answers, group.meta


def test_coroutines_run_together_and_inside_a_running_loop():
    together = []

    async def judge(completions, answer, **kwargs):
        together.append(answer[0])
        while len(together) < 3:
            await asyncio.sleep(0)
        if answer[0] == 1:
            raise TimeoutError("slow")
        return [float(answer[0])] * len(completions)

    groups = [_group(["a"], answer=n) for n in range(3)]
    assert _scored(judge, *groups) == [0.0, None, 2.0]
    together.clear()

    async def caller():
        return _scored(judge, *groups)

    assert asyncio.run(caller()) == [0.0, None, 2.0]


def test_workers_run_the_calls_of_one_function_at_once():
    barrier = threading.Barrier(3, timeout=10)

    def slow(completions, answer, **kwargs):
        barrier.wait()
        return [float(answer[0])]

    groups = [_group(["a"], answer=n) for n in range(3)]
    score_groups(groups, [load_reward({"name": "slow", "function": slow, "workers": 3})])
    assert [group.rewards for group in groups] == [[0.0], [1.0], [2.0]]


def test_without_workers_calls_stay_in_the_calling_thread():
    threads = set()
    _scored(lambda completions, **kwargs: [threads.add(threading.current_thread())], _group(["a"]), _group(["b"]))
    assert threads == {threading.main_thread()}


def test_functions_from_files_and_dotted_paths(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def shout(completions, bonus=0.0, **kw):\n    return [float(c.isupper()) + bonus for c in completions]\n"
    )
    config = tmp_path / "run.yaml"
    config.touch()
    reward = load_reward({"name": "mine.py:shout", "weight": 2, "bonus": 1.0}, near=config)
    group = _group(["A", "b"])
    score_groups([group], [reward])
    assert group.reward_parts == {"shout": [2.0, 1.0]}
    assert group.rewards == [4.0, 2.0]
    dotted = load_reward("trl.rewards.think_format_reward")
    chat = [{"role": "user", "content": "q"}]
    group = _group(["<think>\na\n</think>\nb", "b"], prompt=chat)
    score_groups([group], [dotted])
    assert group.rewards == [1.0, 0.0]


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("missing.py:f", UnknownName, "missing.py"),
        ("no.such.module", UnknownName, "no reward 'no.such.module'"),
        ("trl.rewards.nothing", UnknownName, "no reward 'trl.rewards.nothing'"),
        ("json.__name__", ConfigError, "is a str"),
        ({"weight": 1.0}, ConfigError, "a reward without a name"),
        ({"name": "length", "max_token": 3}, ConfigError, "no option 'max_token'. Did you mean 'max_tokens'"),
        ({"name": "length", "weight": "1"}, ConfigError, "weight of the reward 'length' is '1'"),
        ({"name": "length", "workers": 0}, ConfigError, "workers of the reward 'length' is 0"),
    ],
)
def test_a_bad_reward_is_named(spec, error, said):
    with pytest.raises(error, match=said):
        load_reward(spec)


def test_no_two_rewards_of_one_name():
    with pytest.raises(ConfigError, match="'length' is named twice"):
        load_rewards(["length", {"name": "length", "weight": 2.0}])
