"""NPO and its baselines: values by hand, finite differences, limits, and the formula written another way."""

import math

import pytest
import torch

from engine.errors import ConfigError, InputError
from rl.config import load
from rl.methods._offline import Answers, OfflineBatch
from rl.methods.npo import PARTS, Npo, NpoConfig, dpo_loss, gradient_weight, npo_loss, simnpo_loss

S = torch.tensor([-3.0, -10.0, -0.5, -40.0], dtype=torch.float64)
REF = torch.tensor([-2.0, -4.0, -0.5, -1.0], dtype=torch.float64)


def gradient(function, logprobs):
    leaf = logprobs.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(leaf), leaf)
    return found


def differences(function, logprobs, step=1e-6):
    return torch.stack([
        (function(logprobs + step * unit) - function(logprobs - step * unit)) / (2 * step)
        for unit in torch.eye(len(logprobs), dtype=logprobs.dtype)
    ])  # fmt: skip


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_the_initial_loss_is_two_over_beta_ln_two(beta):
    assert npo_loss(REF, REF, beta=beta).item() == pytest.approx(2 / beta * math.log(2))
    assert dpo_loss(S, S, REF, REF, beta=beta).item() == pytest.approx(2 / beta * math.log(2))


def test_the_papers_beta_begins_at_13_863():
    assert npo_loss(REF, REF, beta=0.1).item() == pytest.approx(13.863, abs=5e-4)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_formula_written_with_probabilities(beta):
    """(2/beta) E log(1 + (pi / pi_ref)^beta), in plain Python."""
    by_hand = [2 / beta * math.log(1 + (math.exp(s) / math.exp(r)) ** beta) for s, r in zip(S, REF, strict=True)]
    assert npo_loss(S, REF, beta=beta).item() == pytest.approx(sum(by_hand) / 4)


def test_a_value_by_hand():
    """pi = pi_ref / 4 and beta 1/2: (2/beta) log(1 + (1/4)^(1/2)) = 4 log 1.5; the weight is 2 / (1 + 2)."""
    s, ref = torch.tensor([-math.log(4.0)]), torch.zeros(1)
    assert npo_loss(s, ref, beta=0.5).item() == pytest.approx(4 * math.log(1.5))
    assert gradient_weight(s, ref, beta=0.5).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_gradient_is_ascents_times_the_weight(beta):
    """Both by autograd and by finite differences, which know nothing of the weight's formula."""
    by_formula = gradient_weight(S, REF, beta=beta) / 4
    torch.testing.assert_close(gradient(lambda s: npo_loss(s, REF, beta=beta), S), by_formula)
    torch.testing.assert_close(differences(lambda s: npo_loss(s, REF, beta=beta), S), by_formula, atol=1e-8, rtol=1e-6)


def test_small_beta_is_gradient_ascent():
    """The gradient becomes that of mean S; the loss, less its constant, becomes mean (S - S_ref)."""
    beta = 1e-5
    torch.testing.assert_close(
        gradient(lambda s: npo_loss(s, REF, beta=beta), S), torch.full_like(S, 0.25), atol=1e-4, rtol=0
    )
    value = npo_loss(S, REF, beta=beta).item() - 2 / beta * math.log(2)
    assert value == pytest.approx((S - REF).mean().item(), abs=1e-2)


def test_a_forgotten_row_is_let_alone_and_ascent_never_stops():
    s = torch.tensor([-1.0, -1000.0], dtype=torch.float64)
    weights = gradient_weight(s, torch.full_like(s, -1.0), beta=0.1)
    assert weights.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert npo_loss(s - 1e6, s, beta=0.1).item() == pytest.approx(0.0, abs=1e-12)


def test_far_log_probs_overflow_nothing():
    far = torch.tensor([1e4, -1e4])
    for beta in (0.1, 10.0):
        for reference in (torch.zeros(2), far, -far):
            leaf = far.clone().requires_grad_()
            loss = npo_loss(leaf, reference, beta=beta)
            (found,) = torch.autograd.grad(loss, leaf)
            assert math.isfinite(loss.item()) and bool(found.isfinite().all())


def test_simnpo_by_hand():
    """beta 2, gamma 1, four tokens of -1 each: -(2/2) log sigmoid(2 * 1 - 1)."""
    loss = simnpo_loss(torch.tensor([-4.0]), torch.tensor([4.0]), beta=2.0, gamma=1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_simnpo_counts_tokens_and_not_answers():
    """Twice the answer at the same log-prob a token is the same loss; its gradient spreads over twice the tokens."""
    short, long = torch.tensor([-3.0]), torch.tensor([-6.0])
    assert simnpo_loss(short, torch.tensor([2.0])).item() == pytest.approx(
        simnpo_loss(long, torch.tensor([4.0])).item()
    )
    gradients = [gradient(lambda s, n=n: simnpo_loss(s, torch.tensor([n])), v) for v, n in ((short, 2.0), (long, 4.0))]
    assert gradients[0].item() == pytest.approx(2 * gradients[1].item())


def test_dpo_by_hand_and_without_refusals_it_is_npo():
    """A refusal that is twice as likely as at the start, an answer half as likely: beta log 4."""
    half, none = torch.tensor([-math.log(2.0)]), torch.zeros(1)
    found = dpo_loss(half, none, -half, none, beta=0.5).item()
    assert found == pytest.approx(-4 * math.log(1 / (1 + 4**-0.5)))
    assert dpo_loss(S, REF, S, S, beta=0.3).item() == pytest.approx(npo_loss(S, REF, beta=0.3).item())


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan])
def test_beta_must_be_positive(beta):
    with pytest.raises(InputError, match=r"beta is .*\n.*gradient ascent"):
        npo_loss(S, REF, beta=beta)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(4, 1), torch.zeros(())])
def test_shapes_must_fit(wrong):
    with pytest.raises(InputError, match="shapes"):
        npo_loss(S, wrong, beta=0.1)


def test_a_config_with_a_wrong_beta_names_its_place():
    config = {"model": {"name": "x"}, "method": {"kind": "npo", "beta": 0.0}, "source": {"kind": "authors"}}
    with pytest.raises(ConfigError, match=r"config at method\.beta: 0\.0 - Input should be greater than 0"):
        load(config)


def answers(rows, *, seed, ref=True, kl=False):
    """rows answers of 1 to 3 tokens."""
    generator = torch.Generator().manual_seed(seed)
    draw = [-torch.rand(rows, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    mask = (torch.arange(3) < (torch.arange(rows) % 3 + 1)[:, None]).double()
    return Answers(draw[0], mask, draw[1] if ref else None, -draw[2] if kl else None)


def batch_of(variant, part, rows, *, total_rows, total_tokens, start=0, size=10):
    whole, refusals = (answers(size, seed=seed, kl=part == "retain") for seed in (1, 2))
    chosen = slice(start, start + rows)

    def cut(a):
        return Answers(*(None if v is None else v[chosen] for v in (a.logprobs, a.mask, a.ref_logprobs, a.kl)))

    method = Npo(NpoConfig(variant=variant))
    if part == "retain" and method.retain == "nll":
        whole.kl = None
    return method, OfflineBatch(
        part, cut(whole), cut(refusals) if method.needs_refusals else None, total_rows, total_tokens
    )


@pytest.mark.parametrize("variant", PARTS)
def test_micro_batches_add_up_to_the_whole(variant):
    for part in Npo(NpoConfig(variant=variant)).uses:
        totals = {"total_rows": 10, "total_tokens": int(answers(10, seed=1).mask.sum())}
        method, whole = batch_of(variant, part, 10, **totals)
        loss, statistics = method.loss(whole)
        parts = [method.loss(batch_of(variant, part, n, start=s, **totals)[1]) for s, n in ((0, 4), (4, 1), (5, 5))]
        assert sum(share.item() for share, _ in parts) == pytest.approx(loss.item())
        for name, value in statistics.items():
            assert sum(found[name].item() for _, found in parts) == pytest.approx(value.item())
            assert value.ndim == 0 and not value.requires_grad


def test_each_variant_is_the_loss_that_it_names():
    totals = {"total_rows": 10, "total_tokens": int(answers(10, seed=1).mask.sum())}
    given, refused = answers(10, seed=1, kl=True), answers(10, seed=2)
    s, r, rs, rr = (
        (v * given.mask).sum(1) for v in (given.logprobs, given.ref_logprobs, refused.logprobs, refused.ref_logprobs)
    )
    mean_logprob = (s.sum() / totals["total_tokens"]).item()
    forget = {
        "npo": npo_loss(s, r, beta=0.1).item(),
        "ga": mean_logprob,
        "simnpo": simnpo_loss(s, given.lengths, beta=2.5).item(),
        "dpo": dpo_loss(s, r, rs, rr, beta=0.1).item(),
    }
    retain = {"nll": -mean_logprob, "kl": ((given.kl * given.mask).sum() / totals["total_tokens"]).item()}
    for variant, (first, second) in PARTS.items():
        method, batch = batch_of(variant, "forget", 10, **totals)
        assert method.loss(batch)[0].item() == pytest.approx(forget[first])
        assert method.uses == (("forget",) if second == "none" else ("forget", "retain"))
        if second != "none":
            method, batch = batch_of(variant, "retain", 10, **totals)
            assert method.loss(batch)[0].item() == pytest.approx(retain[second])
            assert method.needs_reference == (second == "kl")


def test_the_retain_part_can_be_chosen_and_weighted():
    method = Npo(NpoConfig(variant="simnpo", retain="nll", retain_weight=7.0))
    assert method.uses == ("forget", "retain") and not method.needs_ref_logprobs
    given = answers(4, seed=3, ref=False)
    loss, statistics = method.loss(OfflineBatch("retain", given, None, 4, int(given.mask.sum())))
    assert loss.item() == pytest.approx(7 * statistics["retain_nll"].item())
