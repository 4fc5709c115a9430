"""GRPO as the trainer drives it: a config, advantages of groups, a loss of a batch."""

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from engine.errors import UnknownName
from rl.methods import load, names
from rl.methods.base import Batch, MethodConfig
from rl.methods.grpo import METHOD, Grpo, GrpoConfig
from rl.types import Group, Prompt, Rollout


def group(rewards):
    rollouts = [Rollout((5, 2), (-1.0, -1.0), "", "stop") for _ in rewards]
    return Group(Prompt("p", "q"), (4,), rollouts, rewards=list(rewards))


def batch(**changes):
    """Two rollouts on policy: rho = 1."""
    logprobs = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]], requires_grad=True)
    settings = {
        "logprobs": logprobs,
        "old_logprobs": logprobs.detach(),
        "advantages": torch.tensor([[1.0], [-1.0]]),
        "mask": torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        "ref_logprobs": None,
        "sampler_logprobs": None,
        "total_tokens": torch.tensor(3.0),
        "total_rows": 2,
        "max_tokens": 10,
    }
    return Batch(**settings | changes)


def test_is_found_by_name():
    assert "grpo" in names() and "base" not in names()
    assert load("grpo") is Grpo is METHOD
    with pytest.raises(UnknownName, match="Did you mean 'grpo'"):
        load("gpro", place="configs/x.yaml:3:9")


def test_names_load_no_torch():
    code = "import sys, rl.methods as m; m.names(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_defaults_are_trls():
    from trl import GRPOConfig

    theirs, ours = GRPOConfig(output_dir="unused", bf16=False, use_cpu=True), GrpoConfig()
    pairs = {
        "loss": theirs.loss_type,
        "level": theirs.importance_sampling_level,
        "scale": theirs.scale_rewards,
        "clip_low": theirs.epsilon,
        "clip_high": theirs.epsilon_high,
        "delta": theirs.delta,
        "beta": theirs.beta,
        "kl_ratio": theirs.use_bias_correction_kl,
        "sapo_positive": theirs.sapo_temperature_pos,
        "sapo_negative": theirs.sapo_temperature_neg,
        "sampler_correction": theirs.vllm_importance_sampling_mode,
        "sampler_low": theirs.vllm_importance_sampling_clip_min,
        "sampler_high": theirs.vllm_importance_sampling_clip_max,
    }
    assert {name: getattr(ours, name) for name in pairs} == pairs


@pytest.mark.parametrize("wrong", [{"los": "dapo"}, {"loss": "ppo"}, {"delta": 0.5}, {"beta": -1}, {"clip_low": "x"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        GrpoConfig(**wrong)


def test_reference_only_with_kl():
    assert not Grpo(GrpoConfig()).needs_reference
    assert Grpo(GrpoConfig(beta=0.1)).needs_reference
    assert Grpo(GrpoConfig()).iterations == 1
    assert issubclass(GrpoConfig, MethodConfig)


def test_advantages_of_groups_with_missing_rewards():
    advantages = Grpo(GrpoConfig(eps=1e-12)).advantages([group([1.0, 0.0, None]), group([None] * 3)])
    half = 0.5**0.5
    torch.testing.assert_close(advantages, torch.tensor([[half, -half, 0], [0, 0, 0]]))


def test_first_loss_by_hand():
    """dapo: -(1 + 1 - 1)/3 tokens; the gradient is -A/3 at each token."""
    given = batch()
    loss, stats = Grpo(GrpoConfig()).loss(given)
    (gradient,) = torch.autograd.grad(loss, given.logprobs)
    assert loss.item() == pytest.approx(-1 / 3)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, -1.0], [1.0, 0.0]]) / 3)
    assert all(value.dim() == 0 and not value.requires_grad for value in stats.values())


def test_sampler_correction_drops_what_the_sampler_would_not_have_said():
    """A sequence ratio of e^2 > 3 is left out; its token weight would be capped at 3."""
    sampler = torch.tensor([[-1.0, -4.0], [-0.5, 0.0]])
    losses = {
        name: Grpo(GrpoConfig(sampler_correction=name)).loss(batch(sampler_logprobs=sampler))
        for name in ("sequence_mask", "token_truncate", "none")
    }
    assert losses["sequence_mask"][0].item() == pytest.approx(1 / 3)
    assert losses["token_truncate"][0].item() == pytest.approx(-(1 + 3 - 1) / 3)
    assert losses["none"][0].item() == pytest.approx(-1 / 3)
    assert losses["sequence_mask"][1]["sampler_log_ratio_max"].item() == pytest.approx(2)
    assert "sampler_ratio_mean" not in losses["none"][1]


def test_kl_pulls_towards_the_reference():
    given = batch(ref_logprobs=torch.tensor([[-1.0, -2.0], [-1.5, 0.0]]), advantages=torch.zeros(2, 1))
    loss, stats = Grpo(GrpoConfig(beta=0.3, kl_ratio=False)).loss(given)
    (gradient,) = torch.autograd.grad(loss, given.logprobs)
    assert gradient[1, 0] > 0 and gradient[0].abs().sum() == 0  # more likely than under the reference: down
    assert stats["kl"].item() == pytest.approx((2.718281828**-1 + 1 - 1) / 3)


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_every_loss_moves_probability_to_the_better_completion(loss, level):
    """One prompt, four one-token completions, reward 1 for the third: its probability rises every step."""
    logits = torch.zeros(4, requires_grad=True)
    method = Grpo(GrpoConfig(loss=loss, level=level))
    advantages = method.advantages([group([0.0, 0.0, 1.0, 0.0])]).view(4, 1)
    chances = []
    for _ in range(5):
        logprobs = torch.log_softmax(logits, 0).unsqueeze(1)
        chances.append(logprobs[2].exp().item())
        given = batch(
            logprobs=logprobs,
            old_logprobs=logprobs.detach(),
            advantages=advantages,
            mask=torch.ones(4, 1),
            total_tokens=torch.tensor(4.0),
            total_rows=4,
        )
        (gradient,) = torch.autograd.grad(method.loss(given)[0], logits)
        logits = (logits - gradient).detach().requires_grad_()
    assert chances == sorted(chances) and chances[-1] > chances[0] + 0.03
