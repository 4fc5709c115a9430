"""SPO as the trainer drives it: comparisons in, win rates as rewards, advantages and their exactness."""

import itertools
import json
import math

import pytest
import torch
from pydantic import ValidationError

from engine.errors import InputError, UnknownName
from rl.config import load as load_config
from rl.methods import load, names
from rl.methods.base import Batch
from rl.methods.spo import METHOD, Spo, SpoConfig, spo_advantages, win_rates
from rl.types import Group, Prompt, Rollout

BEATS = "agents/rock_paper_scissors.py:beats"


class Alone:
    """What a trainer of one process lends."""

    step = 3
    source = None

    def check(self):
        pass

    def shared(self, items, compute):
        return list(compute(items))


def group(texts, rewards=None, prompt="p", logprobs=None):
    logprobs = logprobs or [(-1.0,)] * len(texts)
    rollouts = [
        Rollout((), (), "", "error", error="too long")
        if text is None
        else Rollout(tuple(range(len(own))), own, text, "stop")
        for text, own in zip(texts, logprobs, strict=True)
    ]
    return Group(Prompt(prompt, "q"), (4,), rollouts, rewards=list(rewards or [None] * len(texts)))


def spo(**settings):
    return Spo(SpoConfig(**{"preference": BEATS, "beta": 0.0} | settings), seed=5)


def test_is_found_by_name_and_an_other_method_is_told_apart():
    assert "spo" in names() and load("spo") is Spo is METHOD
    with pytest.raises(UnknownName, match=r"Did you mean 'spo'[\s\S]*next: SPPO \(Wu et al\., 2405\.00675\)"):
        load_config({"model": {"name": "m"}, "method": {"kind": "sppo"}, "source": {"kind": "arithmetic"}})


def test_defaults_regularize_the_last_iterate_and_need_no_rewards():
    from trl import RLOOConfig

    config = SpoConfig(preference=BEATS)
    assert config.beta == RLOOConfig(output_dir="unused", bf16=False, use_cpu=True).beta == 0.05
    assert (config.entropy, config.scale, config.comparisons, config.queue) == (0.0, "none", None, 0)
    assert not Spo.needs_rewards(config)
    assert Spo.needs_rewards(SpoConfig(preference={"kind": "rewards"}))
    assert Spo(config).needs_reference and not spo().needs_reference


@pytest.mark.parametrize(
    "wrong", [{}, {"preference": 3}, {"preference": {"kind": "jury"}}, {"preference": BEATS, "comparisons": 0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        SpoConfig(**wrong)


def test_win_rates_become_rewards_by_hand():
    """rock beats the two scissors and loses to paper: 2/3; each scissors beats paper and ties with the other: 1/2."""
    method = spo()
    [done] = method.prepare([group(["rock", "scissors", " Scissors\n", "paper"])], Alone())
    assert done.rewards == pytest.approx([2 / 3, 1 / 2, 1 / 2, 1 / 3])
    torch.testing.assert_close(method.advantages([done]), torch.tensor([[1 / 6, 0.0, 0.0, -1 / 6]]))
    expected = {
        "comparisons": 6.0, "unjudged": 0.0, "margin": 5 * 0.5 / 6, "ties": 1 / 6, "order_disagreement": 0.0,
        "intransitive": 1.0, "queue_size": 0.0, "completion_entropy": 1.0,
    }  # fmt: skip
    assert method.metrics == pytest.approx(expected)


def test_ties_teach_nothing_and_what_was_not_sampled_has_no_reward():
    method = spo()
    groups = method.prepare([group(["rock"] * 4), group(["rock", None, "paper"]), group([None, "rock"])], Alone())
    assert [g.rewards for g in groups] == [[0.5] * 4, [0.0, None, 1.0], [None, None]]
    assert torch.equal(method.advantages(groups), torch.tensor([[0.0] * 4, [-0.5, 0.0, 0.5, 0.0], [0.0] * 4]))
    assert all(math.isfinite(value) for value in method.metrics.values())


def test_a_pair_without_verdict_is_left_out_with_its_reason(tmp_path):
    (tmp_path / "p.py").write_text(
        "def longer(prompt, first, second, limit):\n"
        "    if limit in (first, second): raise ValueError('not for me')\n"
        "    return float(len(first) > len(second))\n"
    )
    method = spo(preference=f"{tmp_path}/p.py:longer")
    asked = group(["aaa", "bb", "c", "x"])
    asked.prompt = Prompt("p", "q", {"limit": "x"})
    [done] = method.prepare([asked], Alone())
    assert done.rewards == [1.0, 0.5, 0.0, None]
    assert done.meta["reward_errors"]["preference"] == "ValueError: not for me"
    assert method.metrics["unjudged"] == 0.5 and method.metrics["intransitive"] == 0.0


def test_the_queue_is_met_by_every_new_completion_and_survives_a_checkpoint():
    method = spo(queue=3)
    [first] = method.prepare([group(["rock", "paper"], rewards=[0.25, None])], Alone())
    assert first.rewards == [0.0, 1.0]
    again = spo(queue=3)
    again.load_state_dict(json.loads(json.dumps(method.state_dict())))
    assert again.queues == {"p": [("rock", 0.25), ("paper", None)]}
    other, same = again.prepare([group(["rock", "rock"], prompt="new"), group(["scissors", "paper"])], Alone())
    assert other.rewards == [0.5, 0.5]
    # scissors: beats paper, then loses to rock and beats paper of the queue; paper: 0, 1, 1/2
    assert same.rewards == pytest.approx([2 / 3, 1 / 2])
    assert [text for text, _ in again.queues["p"]] == ["paper", "scissors", "paper"]
    assert again.metrics["comparisons"] == 1 + 1 + 4 and again.metrics["queue_size"] == 5


def test_fewer_comparisons_are_drawn_anew_and_repeat_for_a_resumed_run():
    texts = ["rock", "paper", "scissors"] * 4
    rewards = []
    for step in (3, 4, 3):
        tools = Alone()
        tools.step = step
        method = spo(comparisons=2)
        [done] = method.prepare([group(texts)], tools)
        assert method.metrics["comparisons"] == 12 and sum(done.rewards) == pytest.approx(6)
        rewards.append(done.rewards)
    assert rewards[0] == rewards[2] != rewards[1]


def test_regularizers_are_of_whole_completions_and_centred_on_the_siblings():
    """g = -0.1 (log pi - log ref) - 0.2 log pi, less the mean of the two others; every win rate is 1/2."""
    method = spo(beta=0.1, entropy=0.2)
    logprobs = [(-1.0, -1.0), (-0.5,), (-2.0, -1.0, -1.0)]
    [done] = method.prepare([group(["rock"] * 3, logprobs=logprobs)], Alone())
    done.ref_logprobs = [-3.0, -0.5, -2.0]
    bonus = torch.tensor([-0.1 * 1 + 0.4, 0.1, 0.2 + 0.8])
    apart = bonus - (bonus.sum() - bonus) / 2
    torch.testing.assert_close(method.advantages([done]), apart.unsqueeze(0))
    assert method.metrics["completion_kl"] == pytest.approx((1.0 + 0.0 - 2.0) / 3)
    assert method.metrics["completion_entropy"] == pytest.approx((2.0 + 0.5 + 4.0) / 3)


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_scale_divides_the_win_rates_alone(scale):
    rates = torch.tensor([[0.75, 0.25, float("nan")], [0.5, 0.5, 0.5]])
    bonus = torch.tensor([[0.0, 1.0, 9.0], [0.0, 0.0, 0.3]])
    stds = {"none": 1.0, "group": 0.125**0.5, "batch": (2 * 0.0625 / 4) ** 0.5}
    wanted = torch.tensor([[0.25, -0.25, 0.0], [0.0, 0.0, 0.0]]) / stds[scale]
    wanted += torch.tensor([[-1.0, 1.0, 0.0], [-0.15, -0.15, 0.3]])
    torch.testing.assert_close(spo_advantages(rates, bonus, scale=scale, eps=1e-9), wanted)


def test_rewards_that_are_to_be_compared_must_be_there():
    method = spo(preference={"kind": "rewards"})
    [done] = method.prepare([group(["a", "b", "c"], rewards=[2.0, 1.0, None])], Alone())
    assert done.rewards == [1.0, 0.0, None]
    with pytest.raises(InputError, match="no completion has one"):
        method.prepare([group(["a", "b"])], Alone())


def test_the_expected_gradient_is_that_of_the_regularized_game():
    """Enumerated: completions of two tokens of two letters, every group of three. J = P(o > o') - beta KL + tau H, with
    o from the policy, o' from its frozen copy; a KL per token, or a mean that counts a completion itself, fails."""
    beta, tau = 0.3, 0.2
    method = Spo(SpoConfig(preference={"kind": "rewards"}, beta=beta, entropy=tau))
    torch.manual_seed(0)
    theta = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)  # first token; second after 0; second after 1
    reference = torch.log_softmax(torch.randn(3, 2, dtype=torch.float64), 1)
    raw = torch.rand(4, 4, dtype=torch.float64)
    preference = (raw + 1 - raw.T) / 2
    words = list(itertools.product((0, 1), repeat=2))

    def tokens(table):
        return torch.stack([torch.stack([table[0, a], table[1 + a, b]]) for a, b in words])

    own = tokens(torch.log_softmax(theta, 1))
    log_pi, log_ref = own.sum(1), tokens(reference).sum(1)
    pi = log_pi.exp()
    game = pi @ preference @ pi.detach() - beta * (pi * (log_pi - log_ref)).sum() - tau * (pi * log_pi).sum()
    (wanted,) = torch.autograd.grad(game, theta, retain_graph=True)

    total = torch.zeros_like(theta)
    for chosen in itertools.product(range(4), repeat=3):
        index = torch.tensor(chosen)
        rows = group(["x"] * 3, win_rates(preference[index.unsqueeze(1), index]).tolist(),
                     logprobs=[tuple(own[i].tolist()) for i in chosen])  # fmt: skip
        rows.ref_logprobs = [float(log_ref[i]) for i in chosen]
        batch = Batch(own[index], own[index].detach(), method.advantages([rows]).view(3, 1).double(),
                      torch.ones(3, 2), None, None, torch.tensor(6.0), 3, 2)  # fmt: skip
        (gradient,) = torch.autograd.grad(method.loss(batch)[0], theta, retain_graph=True)
        total -= float(pi.detach()[index].prod()) * gradient * 2  # the loss is a mean over tokens: two a completion
    torch.testing.assert_close(total, wanted, rtol=1e-4, atol=1e-6)
