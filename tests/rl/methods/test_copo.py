"""COPO: consistency entropy, advantages within a group and over the batch's prompts, and how they are blended."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import rl
from engine.errors import InputError
from rl.methods.base import Batch
from rl.methods.copo import METHOD, VARIANTS, Copo, CopoConfig, consistency_entropy, copo_advantages
from rl.methods.grpo import Grpo, GrpoConfig
from rl.types import Group, Prompt, Rollout

REWARDS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
ANSWERS = [["4", "4", "5", "6"], ["7", "7", "7", "7"], ["1", "2", "3", "9"]]


def groups(rewards: Any = REWARDS, answers: Any = ANSWERS) -> list[Group]:
    found = []
    for p, (row, given) in enumerate(zip(rewards.tolist(), answers, strict=True)):
        values = [None if math.isnan(r) else r for r in row]
        rollouts = [Rollout((5, 2), (-1.0, -1.0), f"text {i}", "stop") for i in range(len(row))]
        found.append(Group(Prompt(str(p), "q"), (4,), rollouts, rewards=values, answers=list(given)))
    return found


def copo(**settings: Any) -> Copo:
    return METHOD(CopoConfig(**settings))


def test_entropy_by_hand():
    """Shares 1/2, 1/4, 1/4: 0.5 * 1 + 2 * 0.25 * 2 = 1.5 bits."""
    assert consistency_entropy(["a", "a", "b", "c"]) == pytest.approx(1.5)
    assert consistency_entropy(["a"] * 5) == 0
    assert consistency_entropy(["a", "b", "c", "d"]) == pytest.approx(2.0)
    assert consistency_entropy([None, None, "a", "a"]) == pytest.approx(1.5)  # an unreadable answer is like no other


def test_advantages_by_hand():
    """Group means 1/2, 1, 0: z-scores 0, 1, -1 with the unbiased std of 1/2; entropies 1.5, 0 and 2 bits."""
    found = copo_advantages(REWARDS, ANSWERS, eps=1e-12)
    root = math.sqrt(3) / 2  # (1 - 1/2) / std of 1, 1, 0, 0, which is 1/sqrt(3)
    torch.testing.assert_close(found.local[0], torch.tensor([root, root, -root, -root]))
    assert not found.local[1:].any()
    torch.testing.assert_close(found.global_, torch.tensor([0.0, 1.0, -1.0]))
    torch.testing.assert_close(found.entropy, torch.tensor([1.5, 0.0, 2.0]))
    right = 1 / (1 + math.exp(-2.5)), 1 / (1 + math.exp(5))
    torch.testing.assert_close(found.weight[0], torch.tensor([right[0], right[0], 0.0, 0.0]))
    torch.testing.assert_close(found.weight[1], torch.full((4,), right[1]))  # the page's 0.0067
    assert right[1] == pytest.approx(0.0067, abs=5e-5)
    assert not found.weight[2].any()


def test_variants_differ_in_the_weight_alone():
    found = {variant: copo_advantages(REWARDS, ANSWERS, variant=variant) for variant in VARIANTS}
    soft = torch.sigmoid(5 * (found["soft"].entropy - 1)).unsqueeze(1).expand(3, 4)
    expected = {
        "soft": soft,
        "soft_with_zero": soft * (REWARDS > 0),
        "only_global": torch.zeros(3, 4),
        "no_global": torch.ones(3, 4),
        "soft_with_forced": soft * torch.tensor([[1.0], [0.0], [0.0]]),
    }
    for variant, weight in expected.items():
        torch.testing.assert_close(found[variant].weight, weight)
        torch.testing.assert_close(found[variant].local, found["soft"].local)
        torch.testing.assert_close(found[variant].global_, found["soft"].global_)


def test_the_coefficient_lowers_the_mean_of_a_group_that_disagrees():
    """n = 4: lambda = (1 - 1/4) / 2; all answers different: c = 1/4; all equal: 1. Means 1/2 * c(1.5), 1 and 1."""
    rewards = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0] * 4, [1.0] * 4])
    answers = [["4", "4", "5", "6"], ["7"] * 4, ["1", "2", "3", "9"]]
    found = copo_advantages(rewards, answers, coefficient=True, eps=1e-12)
    means = torch.tensor([0.5 * (1 - 0.375 * 1.5), 1.0, 0.25])
    torch.testing.assert_close(found.global_, (means - means.mean()) / means.std())


def test_prompts_without_reward_and_single_prompts_have_no_global_advantage():
    nan = math.nan
    rewards = torch.tensor([[1.0, nan, 0.0], [nan, nan, nan], [1.0, 1.0, 1.0]])
    found = copo_advantages(rewards, [["a", "x", "b"], [None] * 3, ["c"] * 3], eps=1e-12)
    torch.testing.assert_close(found.global_, torch.tensor([-(0.5**0.5), 0.0, 0.5**0.5]))
    assert found.entropy.tolist() == [1.0, 0.0, 0.0]  # of the two completions that have a reward
    assert not found.local[:, 1].any()
    assert copo_advantages(REWARDS[:1], ANSWERS[:1]).global_.tolist() == [0.0]
    both = copo().advantages(groups(rewards, [["a", "x", "b"], [None] * 3, ["c"] * 3]))
    assert not both["global"][0, 1] and not both["global"][1].any()


@pytest.mark.parametrize("coefficient", [True, False])
def test_prompts_that_do_equally_well_have_no_global_advantage(coefficient: bool):
    """Also where the same rewards stand in another order, and their sum is rounded another way."""
    row = torch.tensor([0.1, 0.2, 0.7, 0.9, 1.1])
    for prompts in range(2, 12):
        rewards = torch.stack([row.roll(i) for i in range(prompts)])
        found = copo_advantages(rewards, [list("aabbc")] * prompts, coefficient=coefficient)
        assert found.global_.tolist() == [0.0] * prompts


def test_without_scale_both_advantages_are_differences():
    found = copo_advantages(REWARDS, ANSWERS, scale="none")
    torch.testing.assert_close(found.local[0], torch.tensor([0.5, 0.5, -0.5, -0.5]))
    torch.testing.assert_close(found.global_, torch.tensor([0.0, 0.5, -0.5]))
    assert torch.equal(copo(scale="none", variant="only_global").advantages(groups())["global"][:, 0], found.global_)


def test_whole_numbers_are_rewards():
    exact, whole = (copo_advantages(rewards, ANSWERS) for rewards in (REWARDS, REWARDS.long()))
    assert all(torch.equal(a, b) for a, b in zip(exact, whole, strict=True))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="answers of 1 prompts"):
        copo_advantages(REWARDS, [["a"] * 4])
    with pytest.raises(InputError, match=r"no variant 'hard'(.|\n)*soft_with_zero"):
        copo_advantages(REWARDS, ANSWERS, variant="hard")  # type: ignore[arg-type]


def test_a_way_out_that_the_variant_does_not_have_is_refused():
    with pytest.raises(ValidationError, match="nonpositive changes nothing with variant: soft"):
        CopoConfig(variant="soft", wrong="nonpositive")


def test_what_is_logged_leaves_out_completions_without_reward():
    """Of six completions three are rated: w is 1/2 for the right one of the first group, 0 for the wrong one, and
    sigmoid(-5) for the second group; one of the three answers is missing. The third group has no part in it."""
    nan = math.nan
    rewards = torch.tensor([[1.0, 0.0], [1.0, nan], [nan, nan]])
    method = copo()
    method.advantages(groups(rewards, [["a", "b"], [None, None], [None, None]]))
    assert method.metrics["copo/entropy"] == pytest.approx(1 / 2)
    assert method.metrics["copo/weight"] == pytest.approx((1 / 2 + 0 + 1 / (1 + math.exp(5))) / 3)
    assert method.metrics["copo/unextracted"] == pytest.approx(1 / 3)
    method = copo(wrong="local")
    method.advantages(groups(rewards, [["a", "b"], [None, None], [None, None]]))
    assert method.metrics["copo/weight"] == pytest.approx((1 / 2 + 1 + 1 / (1 + math.exp(5))) / 3)


def test_an_answer_that_was_not_extracted_counts_as_its_text():
    method = copo()
    given = groups(answers=[[None] * 4, ["7", "7", "7", None], [None] * 4])
    given[1].rollouts[3] = Rollout((5, 2), (-1.0, -1.0), "7", "stop")
    given[2].rollouts = [Rollout((5, 2), (-1.0, -1.0), text, "length") for text in ("well", "well", "er", "hm")]
    method.advantages(given)
    assert method.metrics["copo/entropy"] == pytest.approx((2 + 0 + 1.5) / 3)  # four texts, one, and 1/2, 1/4, 1/4
    assert method.metrics["copo/unextracted"] == pytest.approx(9 / 12)


def test_a_wrong_completion_of_a_prompt_above_the_mean_is_reinforced_unless_told_otherwise():
    """Means 3/4, 1/4, 1/4: the wrong one of the first prompt gets that prompt's positive advantage."""
    rewards = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    answers = [["4", "4", "4", "5"], ["7", "1", "2", "3"], ["7", "1", "2", "3"]]
    totals, shares = {}, {}
    for wrong in ("global", "nonpositive", "local"):
        method = copo(wrong=wrong)
        found = method.advantages(groups(rewards, answers))
        totals[wrong] = (found["advantages"] + found["global"])[0, 3].item()
        shares[wrong] = method.metrics["copo/reinforced_wrong"]
    mean = torch.tensor([0.75, 0.25, 0.25])
    assert totals["global"] == pytest.approx(((mean - mean.mean()) / mean.std())[0].item(), rel=1e-4)
    assert totals["global"] > 0 and totals["nonpositive"] == 0 and totals["local"] == pytest.approx(-1.5, rel=1e-4)
    assert shares == {"global": pytest.approx(1 / 7), "nonpositive": 0.0, "local": 0.0}


def batch(advantages: dict[str, torch.Tensor], **changes: Any) -> Batch:
    """The twelve completions of three groups, two tokens each, a little off policy."""
    generator = torch.Generator().manual_seed(0)
    logprobs = -torch.rand(12, 2, generator=generator)
    mask = torch.ones(12, 2)
    mask[::3, 1] = 0
    rows = {name: values.reshape(12, 1) for name, values in advantages.items()}
    return Batch(
        logprobs=logprobs.requires_grad_(),
        old_logprobs=logprobs.detach() + torch.randn(12, 2, generator=generator),
        advantages=rows.pop("advantages"),
        mask=mask,
        ref_logprobs=None,
        sampler_logprobs=None,
        total_tokens=mask.sum(),
        total_rows=12,
        max_tokens=2,
        more=rows,
        **changes,
    )


def test_the_loss_is_the_blend_of_two_clipped_losses_written_out():
    """w L(A) + (1 - w) L(global): the clip 0.2, ratios capped at 3 where A < 0, means of tokens and then of rows."""
    method = copo(variant="soft")
    given = batch(method.advantages(groups()))
    found = copo_advantages(REWARDS, ANSWERS, variant="soft")
    ratio = (given.logprobs - given.old_logprobs).exp()

    def clipped(advantage: torch.Tensor) -> torch.Tensor:
        plain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return -torch.where(advantage < 0, torch.max(plain, 3 * advantage), plain)

    weight, local = found.weight.reshape(12, 1), found.local.reshape(12, 1)
    over_prompts = found.global_.repeat_interleave(4).unsqueeze(1)
    terms = weight * clipped(local) + (1 - weight) * clipped(over_prompts)
    expected = ((terms * given.mask).sum(1) / given.mask.sum(1)).mean()
    torch.testing.assert_close(method.loss(given)[0], expected)


def test_the_share_that_the_clip_takes_of_the_global_part_is_told():
    """Groups that agree have no local part. Ratios 1.5 and 1 with a global advantage above 0: half is clipped."""
    rows = torch.full((2, 2), -1.0)
    given = Batch(
        logprobs=(rows + torch.tensor([math.log(1.5), 0.0])).requires_grad_(),
        old_logprobs=rows,
        advantages=torch.zeros(2, 1),
        mask=torch.ones(2, 2),
        ref_logprobs=None,
        sampler_logprobs=None,
        total_tokens=torch.tensor(4.0),
        total_rows=2,
        max_tokens=2,
        more={"global": torch.ones(2, 1)},
    )
    _, statistics = copo().loss(given)
    assert statistics["clip_share"] == 0 and statistics["global_clip_share"] == pytest.approx(1 / 2)


def test_without_the_global_part_it_is_grpo():
    grpo = Grpo(GrpoConfig(loss="grpo", eps=1e-6, delta=3.0))
    method = copo(variant="no_global")
    advantages, expected = method.advantages(groups()), grpo.advantages(groups())
    assert torch.equal(advantages["advantages"], expected) and not advantages["global"].any()
    torch.testing.assert_close(method.loss(batch(advantages))[0], grpo.loss(batch({"advantages": expected}))[0])


def test_the_kl_term_counts_once():
    advantages = copo().advantages(groups())
    given = batch(advantages)
    given.ref_logprobs = given.old_logprobs - 0.1
    kl = Grpo(GrpoConfig(loss="grpo", beta=0.5)).loss(
        Batch(**{**vars(given), "advantages": torch.zeros(12, 1), "more": {}})
    )[0]
    torch.testing.assert_close(copo(beta=0.5).loss(given)[0] - copo().loss(given)[0], kl)


EASY_OR_HARD = """
def easy(prompts, completions, completion_ids, **columns):
    return [float(answer < "5") for answer in columns["answer"]]
def same(completion, **row):
    return row["answer"]
easy.extract = same
"""


@pytest.mark.parametrize(("kind", "moves"), [("copo", True), ("grpo", False)])
def test_groups_that_are_all_right_move_the_weights_where_grpo_has_no_gradient(
    tiny_config: dict[str, Any], tmp_path: Path, kind: str, moves: bool
):
    """The property that the method exists for, in a run: every group agrees with itself, the prompts do not."""
    (tmp_path / "rewards.py").write_text(EASY_OR_HARD, encoding="utf-8")
    tiny_config |= {"method": {"kind": kind}, "rewards": [f"{tmp_path}/rewards.py:easy"]}
    tiny_config["trainer"] |= {"steps": 3, "eval_every": 0}
    run = rl.train(tiny_config, run_dir=tmp_path / "run", is_quiet=True)
    steps = [row for row in run.metrics if 0 < row["reward_mean"] < 1]
    assert steps and all((row["grad_norm"] > 0) == moves for row in steps)
    if moves:
        assert all(row["copo/global_only"] + row["copo/entropy"] > 0 for row in steps)
        assert all(row["copo/entropy"] == 0 and row["copo/weight"] < 0.0068 for row in steps)
