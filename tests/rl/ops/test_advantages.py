"""Advantages against TRL's own code, hand calculations and properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from rl.ops.advantages import SCALES, group_advantages, has_signal, nan_std, normalize_then_sum

NAN = float("nan")


def trl_advantages(trainer, monkeypatch, rewards, *, scale="group", aggregation="sum_then_normalize", weights=(1.0,)):
    """TRL's advantages for (P, G, K) rewards: everything but the arithmetic is given."""
    prompts, size, functions = rewards.shape
    rows = prompts * size
    monkeypatch.setattr(trainer, "num_generations", size)
    monkeypatch.setattr(trainer, "scale_rewards", scale)
    monkeypatch.setattr(trainer, "multi_objective_aggregation", aggregation)
    monkeypatch.setattr(trainer, "reward_funcs", [None] * functions)
    monkeypatch.setattr(trainer, "reward_func_names", [f"f{k}" for k in range(functions)])
    monkeypatch.setattr(trainer, "reward_weights", torch.tensor(weights))
    monkeypatch.setattr(trainer, "use_vllm", False)
    generated = [[4]] * rows, [[5]] * rows, None, [""] * rows, None, {}, None, None
    monkeypatch.setattr(trainer, "_generate", lambda _: generated)
    monkeypatch.setattr(trainer, "_calculate_rewards", lambda *_: rewards.flatten(0, 1))
    trainer.model.train()
    return trainer._generate_and_score_completions([{"prompt": "w4"}] * rows)["advantages"].view(prompts, size)


def random_rewards(*shape, missing=0.2):
    random = torch.Generator().manual_seed(0)
    rewards = torch.randn(*shape, generator=random)
    return rewards.masked_fill(torch.rand(*shape, generator=random) < missing, NAN)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_equals_trl(scale, missing, trl_trainer, monkeypatch):
    rewards = random_rewards(3, 4, missing=missing)
    theirs = trl_advantages(trl_trainer, monkeypatch, rewards[:, :, None], scale=scale)
    torch.testing.assert_close(group_advantages(rewards, scale=scale), theirs)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_normalize_then_sum_equals_trl(missing, trl_trainer, monkeypatch):
    rewards, weights = random_rewards(3, 4, 2, missing=missing), (1.0, 0.25)
    theirs = trl_advantages(trl_trainer, monkeypatch, rewards, aggregation="normalize_then_sum", weights=weights)
    torch.testing.assert_close(normalize_then_sum(rewards, weights), theirs)


def test_one_success_of_eight_by_hand():
    """mean 1/8, unbiased std sqrt(1/8): (7/8) sqrt 8 = 2.475 and -(1/8) sqrt 8 = -0.354."""
    advantages = group_advantages(torch.tensor([[1.0] + [0.0] * 7]), eps=1e-12)
    torch.testing.assert_close(advantages, torch.tensor([[2.4749] + [-0.3536] * 7]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [2, 3, 6, 8, 16])
def test_equal_rewards_give_exactly_zero(scale, size):
    """Eight times 0.1 has in float32 another mean than 0.1, and a std of the size of that rounding."""
    rewards = torch.linspace(0.1, 2.9, 29).unsqueeze(1).repeat(1, size)
    assert not group_advantages(rewards, scale=scale, eps=1e-6).any()


@pytest.mark.parametrize("size", [3, 6, 8])
def test_equal_rewards_of_several_functions_give_exactly_zero(size):
    """Rounding again: groups of equal rewards beside one with signal, and a function that always says the same."""
    rewards = torch.stack([torch.linspace(0.1, 2.9, 29).unsqueeze(1).repeat(1, size)] * 2, dim=2)
    assert not normalize_then_sum(rewards, [1.0, 0.3], eps=1e-6).any()
    rewards[0, 0, 1] = NAN
    rewards[1, 0, 0] += 1
    found = normalize_then_sum(rewards, [1.0, 0.3], eps=1e-6)
    assert not found[0].any() and not found[2:].any() and found[1, 0] > 0
    assert found[1, 1:].unique().numel() == 1  # the constant function makes no difference between them


def test_without_scale_by_hand():
    assert group_advantages(torch.tensor([[3.0, 1.0], [5.0, 5.0]]), scale="none").tolist() == [[1, -1], [0, 0]]


def test_batch_scale_by_hand():
    """Rewards 3, 1, 5, 5: variance about 3.5 is (0.25 + 6.25 + 2.25 + 2.25)/3 = 11/3."""
    advantages = group_advantages(torch.tensor([[3.0, 1.0], [5.0, 5.0]]), scale="batch", eps=1e-12)
    size = (3 / 11) ** 0.5
    torch.testing.assert_close(advantages, torch.tensor([[size, -size], [0, 0]]))


def test_missing_rewards_are_left_out():
    advantages = group_advantages(torch.tensor([[1.0, NAN, 0.0], [NAN, NAN, NAN], [1.0, NAN, NAN]]), eps=1e-12)
    half = 0.5**0.5  # std of {0, 1}
    torch.testing.assert_close(advantages, torch.tensor([[half, 0, -half], [0, 0, 0], [0, 0, 0]]))


rewards_lists = st.lists(
    st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=4, max_size=4), min_size=1, max_size=5
)


@given(rewards_lists, st.sampled_from(SCALES))
def test_sum_of_a_group_is_zero(rewards, scale):
    total = group_advantages(torch.tensor(rewards), scale=scale).sum(1)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-4)


@given(rewards_lists, st.floats(0.5, 20), st.floats(-5, 5))
def test_scale_and_shift_of_rewards_do_not_matter(rewards, factor, shift):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    for scale in ("group", "batch"):
        before = group_advantages(rewards, scale=scale, eps=1e-12)
        after = group_advantages(factor * rewards + shift, scale=scale, eps=1e-12)
        signal = has_signal(rewards)
        torch.testing.assert_close(after[signal], before[signal])


@given(rewards_lists)
def test_signal_is_variance(rewards):
    rewards = torch.tensor(rewards)
    assert torch.equal(has_signal(rewards), rewards.std(1) > 0)
    assert torch.equal(has_signal(rewards), group_advantages(rewards).abs().sum(1) > 0)


def test_missing_rewards_give_no_signal():
    assert has_signal(torch.tensor([[1.0, NAN], [NAN, NAN], [1.0, 0.0]])).tolist() == [False, False, True]


def test_nan_std_is_torchs_without_nans():
    values = torch.tensor([1.0, NAN, 4.0, 6.0])
    torch.testing.assert_close(nan_std(values), torch.tensor([1.0, 4.0, 6.0]).std())


def test_a_function_with_large_numbers_does_not_drown_the_others():
    """Winning on either function counts the same, though one pays a thousand times more."""
    rewards = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1000.0], [1.0, 1000.0]]])
    neither, first, second, both = normalize_then_sum(rewards, [1.0, 1.0])[0].tolist()
    assert first == pytest.approx(second, abs=1e-3)
    assert neither < first < both


def test_a_group_of_one_gets_no_advantage():
    assert normalize_then_sum(torch.tensor([[[1.0]]]), [1.0]).tolist() == [[0.0]]
    assert group_advantages(torch.tensor([[1.0]])).tolist() == [[0.0]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"rewards have shape \(3,\)"):
        group_advantages(torch.zeros(3))
    with pytest.raises(InputError, match="no reward scale 'std'"):
        group_advantages(torch.zeros(1, 2), scale="std")
    with pytest.raises(InputError, match="1 weights for 2 reward functions"):
        normalize_then_sum(torch.zeros(1, 2, 2), [1.0])
