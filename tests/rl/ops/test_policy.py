"""Policy losses against TRL's own code, finite differences and hand calculations."""

import math

import pytest
import torch

from engine.errors import InputError
from rl.ops.policy import (
    CORRECTIONS,
    KINDS,
    Window,
    aggregate,
    k3_kl,
    log_ratios,
    policy_loss,
    sampler_weights,
)

LIMIT = 9  # max_completion_length in these tests


def random_batch(rows=4, length=6, seed=0, spread=0.4, dtype=torch.float32):
    """Log-probs near the old ones, ragged masks, mixed advantages; junk where masked."""
    random = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(rows, length, generator=random, dtype=dtype)
    new = old + spread * torch.randn(rows, length, generator=random, dtype=dtype)
    reference = old + spread * torch.randn(rows, length, generator=random, dtype=dtype)
    lengths = torch.randint(1, length + 1, (rows,), generator=random)
    mask = (torch.arange(length) < lengths[:, None]).to(dtype)
    advantages = torch.randn(rows, generator=random, dtype=dtype)
    return new.requires_grad_(), old, reference, advantages, mask


def trl_settings(trainer, monkeypatch, *, accumulation=1, **settings):
    """Give TRL's trainer these settings; those of its arguments under their names there."""
    base = {
        "loss_type": "dapo",
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "max_completion_length": LIMIT,
        "current_gradient_accumulation_steps": accumulation,
        "use_vllm": False,
    }
    for name, value in (base | settings).items():
        monkeypatch.setattr(trainer.args if name in ARGUMENTS else trainer, name, value, raising=False)
    monkeypatch.setattr(trainer.args, "steps_per_generation", accumulation)
    trainer.model.train()


ARGUMENTS = ("delta", "use_bias_correction_kl", "sapo_temperature_pos", "sapo_temperature_neg")


def trl_loss(trainer, monkeypatch, batch, items, **extra):
    """TRL's `_compute_loss` on the batch's tensors."""
    new, old, reference, advantages, mask = batch
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (new, torch.zeros_like(new), None)
    )
    ids = torch.ones(mask.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": items,
    }
    return trainer._compute_loss(trainer.model, inputs | extra)


def assert_same(ours, theirs, logprobs):
    """Value and gradient to 1e-5."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    (mine,) = torch.autograd.grad(ours, logprobs, retain_graph=True)
    (other,) = torch.autograd.grad(theirs, logprobs)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kl_ratio", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.04, 1.0])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_trl(kind, level, beta, kl_ratio, trl_trainer, monkeypatch):
    batch = new, old, reference, advantages, mask = random_batch()
    trl_settings(
        trl_trainer,
        monkeypatch,
        loss_type=kind,
        importance_sampling_level=level,
        beta=beta,
        use_bias_correction_kl=kl_ratio,
        epsilon_high=0.28,
    )
    theirs = trl_loss(trl_trainer, monkeypatch, batch, mask.sum())
    ours, _ = policy_loss(
        new,
        old,
        advantages,
        mask,
        kind=kind,
        level=level,
        beta=beta,
        kl_ratio=kl_ratio,
        ref_logprobs=reference,
        clip_high=0.28,
        window=Window(mask.sum(), len(mask), LIMIT),
    )
    assert_same(ours, theirs, new)


@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_equals_trl_with_delta_and_other_clips(spread, trl_trainer, monkeypatch):
    batch = new, old, _, advantages, mask = random_batch(seed=3, spread=spread)
    trl_settings(trl_trainer, monkeypatch, loss_type="grpo", epsilon_low=0.1, epsilon_high=0.5, delta=1.7)
    theirs = trl_loss(trl_trainer, monkeypatch, batch, mask.sum())
    ours, _ = policy_loss(new, old, advantages, mask, kind="grpo", clip_low=0.1, clip_high=0.5, delta=1.7)
    assert_same(ours, theirs, new)


def test_equals_trl_with_other_sapo_temperatures(trl_trainer, monkeypatch):
    batch = new, old, _, advantages, mask = random_batch(seed=4)
    trl_settings(trl_trainer, monkeypatch, loss_type="sapo", sapo_temperature_pos=2.0, sapo_temperature_neg=0.5)
    theirs = trl_loss(trl_trainer, monkeypatch, batch, mask.sum())
    ours, _ = policy_loss(new, old, advantages, mask, kind="sapo", sapo_positive=2.0, sapo_negative=0.5)
    assert_same(ours, theirs, new)


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_micro_batches_add_up_as_in_trl(kind, trl_trainer, monkeypatch):
    batches = [random_batch(seed=5), random_batch(seed=6)]
    tokens = sum(batch[4].sum() for batch in batches)
    trl_settings(trl_trainer, monkeypatch, loss_type=kind, accumulation=2, beta=0.1)
    window = Window(tokens, 8, LIMIT)
    for batch in batches:
        new, old, reference, advantages, mask = batch
        theirs = trl_loss(trl_trainer, monkeypatch, batch, tokens)
        ours, _ = policy_loss(
            new, old, advantages, mask, kind=kind, clip_high=0.2, beta=0.1, ref_logprobs=reference, window=window
        )
        assert_same(ours, theirs, new)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bnpo"])
def test_unequal_micro_batches_give_the_whole_loss(kind):
    new, old, _, advantages, mask = random_batch(rows=5)
    whole, _ = policy_loss(new, old, advantages, mask, kind=kind)
    window = Window(mask.sum(), 5, mask.shape[1])
    parts = [
        policy_loss(new[rows], old[rows], advantages[rows], mask[rows], kind=kind, window=window)[0]
        for rows in (slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cispo"])  # cispo's weight is held fixed
def test_gradient_equals_finite_differences(kind, level, beta):
    new, old, reference, advantages, mask = random_batch(rows=3, length=4, seed=1, dtype=torch.float64)

    def loss(logprobs):
        return policy_loss(logprobs, old, advantages, mask, kind=kind, level=level, beta=beta, ref_logprobs=reference)[
            0
        ]

    assert torch.autograd.gradcheck(loss, [new])


def test_cispo_gradient_is_the_capped_weight_times_advantage():
    old = torch.zeros(1, 2)
    new = torch.tensor([[math.log(2.0), math.log(8.0)]], requires_grad=True)
    loss, stats = policy_loss(new, old, torch.tensor([3.0]), torch.ones(1, 2), kind="cispo")
    (gradient,) = torch.autograd.grad(loss, new)
    torch.testing.assert_close(gradient, torch.tensor([[-2.0 * 3 / 2, -5.0 * 3 / 2]]))  # ratios 2 and 8, cap 5
    assert stats["clip_share"] == 0.5


def test_first_step_has_no_loss_but_a_gradient():
    """rho = 1 and advantages that sum to 0."""
    logprobs = torch.full((2, 3), -1.0, requires_grad=True)
    loss, stats = policy_loss(logprobs, logprobs.detach(), torch.tensor([1.0, -1.0]), torch.ones(2, 3))
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert loss == 0
    torch.testing.assert_close(gradient, torch.tensor([[-1.0] * 3, [1.0] * 3]) / 6)
    assert stats["ratio_mean"] == 1 and stats["clip_share"] == 0


def test_clipping_by_hand():
    """Ratios 1.5 and 0.5 with both signs: -min(rho A, clip(rho) A)."""
    logprobs = torch.tensor([[1.5], [0.5], [1.5], [0.5]]).log()
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    _, stats = policy_loss(logprobs, torch.zeros(4, 1), advantages, torch.ones(4, 1))
    losses = [
        policy_loss(logprobs[i : i + 1], torch.zeros(1, 1), advantages[i : i + 1], torch.ones(1, 1))[0].item()
        for i in range(4)
    ]
    assert losses == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    assert (stats["clip_low_share"], stats["clip_high_share"], stats["clip_share"]) == (0.25, 0.25, 0.5)
    capped, _ = policy_loss(logprobs[2:3], torch.zeros(1, 1), advantages[2:3], torch.ones(1, 1), delta=1.3)
    assert capped.item() == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("grpo", (3 / 1 + 6 / 3) / 2), ("bnpo", 9 / 4), ("dapo", 9 / 4), ("dr_grpo", 9 / (2 * 10)), ("sapo", 2.5)],
)
def test_aggregation_by_hand(kind, expected):
    terms = torch.tensor([[3.0, 100.0, 100.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[1.0, 0, 0], [1, 1, 1]])
    assert aggregate(terms, mask, kind=kind, window=Window(4, 2, 10)).item() == pytest.approx(expected)


def test_sequence_ratio_is_the_geometric_mean():
    ratios = log_ratios(
        torch.tensor([[2.0, 4.0, 99.0]]), torch.zeros(1, 3), torch.tensor([[1, 1, 0]]), level="sequence"
    )
    assert ratios.tolist() == [[3.0]]


def test_k3_by_hand():
    """Ratio reference/policy of 2: 2 - ln 2 - 1."""
    kl = k3_kl(torch.zeros(1, 2), torch.tensor([[math.log(2.0), 7.0]]), torch.tensor([[1, 0]]))
    torch.testing.assert_close(kl, torch.tensor([[1 - math.log(2.0), 0.0]]))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("kind", KINDS)
def test_junk_under_the_mask_changes_nothing(kind, level):
    new, old, reference, advantages, mask = random_batch(seed=7)

    def loss_and_gradient(junk):
        tensors = [t.detach().masked_fill(mask == 0, junk) for t in (new, old, reference)]
        logprobs = tensors[0].requires_grad_()
        loss, _ = policy_loss(
            logprobs, tensors[1], advantages, mask, kind=kind, level=level, beta=0.1, ref_logprobs=tensors[2]
        )
        return loss, torch.autograd.grad(loss, logprobs)[0]

    clean = loss_and_gradient(0.0)
    for junk in (float("nan"), float("-inf"), 1e30):
        torch.testing.assert_close(loss_and_gradient(junk), clean)


def test_enormous_ratios_stay_finite_and_are_reported_raw():
    logprobs = torch.tensor([[0.0, -900.0]], requires_grad=True)
    old = torch.tensor([[-900.0, 0.0]])
    for kind in KINDS:
        loss, stats = policy_loss(
            logprobs, old, torch.tensor([-1.0]), torch.ones(1, 2), kind=kind, beta=0.1, ref_logprobs=old
        )
        assert loss.isfinite() and torch.autograd.grad(loss, logprobs)[0].isfinite().all()
        assert stats["log_ratio_max"] == 900


def test_per_token_advantages_are_taken():
    new, old, _, advantages, mask = random_batch(seed=8)
    row, _ = policy_loss(new, old, advantages, mask)
    column, _ = policy_loss(new, old, advantages[:, None], mask)
    token, _ = policy_loss(new, old, advantages[:, None].expand_as(mask), mask)
    assert row == column == token


def test_an_empty_completion_is_no_division_by_zero():
    new, old, _, advantages, mask = random_batch(seed=9)
    mask[0] = 0
    for kind in KINDS:
        for level in ("token", "sequence"):
            assert policy_loss(new, old, advantages, mask, kind=kind, level=level)[0].isfinite()


def test_a_batch_without_a_single_token_has_loss_zero():
    empty = torch.zeros(2, 0)
    loss, stats = policy_loss(empty, empty, torch.zeros(2), empty)
    assert loss == 0 and stats["log_ratio_max"] == 0


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(("low", "high"), [(None, 3.0), (0.5, 1.5), (0.5, None)])
def test_sampler_weights_equal_trl(correction, low, high, trl_trainer, monkeypatch):
    """TRL computes them while it scores completions; only generation, rewards and log-probs are given."""
    random = torch.Generator().manual_seed(1)
    lengths = [6, 3, 5, 1]
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).float()
    old = -torch.rand(4, 6, generator=random)
    sampler = old + 1.5 * torch.randn(4, 6, generator=random)
    sampler[0, 2] = float("nan")
    reported = [
        [None if math.isnan(x) else x for x in row[:n]] for row, n in zip(sampler.tolist(), lengths, strict=True)
    ]
    trl_settings(
        trl_trainer,
        monkeypatch,
        use_vllm=True,
        vllm_importance_sampling_mode=correction,
        vllm_importance_sampling_clip_min=low,
        vllm_importance_sampling_clip_max=high,
    )
    completions = [[5] * n for n in lengths]
    generated = [[4]] * 4, completions, None, [""] * 4, reported, {}, None, None
    monkeypatch.setattr(trl_trainer, "_generate", lambda _: generated)
    monkeypatch.setattr(trl_trainer, "_calculate_rewards", lambda *_: torch.tensor([[1.0], [0.0], [0.5], [0.2]]))
    monkeypatch.setattr(
        trl_trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (old, torch.zeros_like(old), None)
    )
    theirs = trl_trainer._generate_and_score_completions([{"prompt": "w4"}] * 4)["importance_sampling_ratio"]
    ours, stats = sampler_weights(old, sampler, mask, correction=correction, low=low, high=high)
    torch.testing.assert_close(ours, theirs)
    assert 0 < stats["sampler_outside_share"] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_loss_equals_trl(kind, trl_trainer, monkeypatch):
    batch = new, old, reference, advantages, mask = random_batch(seed=10)
    weights = torch.rand(4, 6)
    trl_settings(trl_trainer, monkeypatch, loss_type=kind, use_vllm=True, beta=0.2)
    theirs = trl_loss(trl_trainer, monkeypatch, batch, mask.sum(), importance_sampling_ratio=weights)
    ours, _ = policy_loss(
        new,
        old,
        advantages,
        mask,
        kind=kind,
        clip_high=0.2,
        beta=0.2,
        ref_logprobs=reference,
        weights=weights,
        window=Window(mask.sum(), 4, LIMIT),
    )
    assert_same(ours, theirs, new)


def test_unbounded_truncation_is_the_ratio_itself():
    weights, _ = sampler_weights(
        torch.zeros(1, 2), torch.full((1, 2), -2.0), torch.ones(1, 2), correction="token_truncate", high=None
    )
    torch.testing.assert_close(weights, torch.full((1, 2), math.e**2))


def test_statistics_equal_trl(trl_trainer, monkeypatch):
    batch = new, old, reference, advantages, mask = random_batch(seed=11, spread=0.6)
    trl_settings(trl_trainer, monkeypatch, beta=0.1)
    trl_trainer._metrics["train"].clear()
    trl_loss(trl_trainer, monkeypatch, batch, mask.sum())
    logged = {name: values[-1] for name, values in trl_trainer._metrics["train"].items()}
    _, stats = policy_loss(new, old, advantages, mask, beta=0.1, ref_logprobs=reference)
    assert stats["kl"].item() == pytest.approx(logged["kl"], rel=1e-5)
    assert stats["clip_low_share"].item() == pytest.approx(logged["clip_ratio/low_mean"])
    assert stats["clip_high_share"].item() == pytest.approx(logged["clip_ratio/high_mean"])
    assert stats["clip_share"].item() == pytest.approx(logged["clip_ratio/region_mean"])
    assert stats["clip_share"] > 0


def test_what_does_not_fit_is_refused():
    ones = torch.ones(1, 1)
    with pytest.raises(InputError, match="no loss 'gpro'") as refused:
        policy_loss(ones, ones, ones, ones, kind="gpro")
    assert "dr_grpo" in str(refused.value)
    with pytest.raises(InputError, match="no ratio level 'word'"):
        policy_loss(ones, ones, ones, ones, level="word")
    with pytest.raises(InputError, match="no reference log-probs"):
        policy_loss(ones, ones, ones, ones, beta=0.1)
    with pytest.raises(InputError, match="no sampler correction 'mask'"):
        sampler_weights(ones, ones, ones, correction="mask")
