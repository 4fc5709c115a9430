"""SPO at games with known solutions: a softmax policy over arms, eight sampled, noisy comparisons.

Every step goes through the method's own functions: win_rates, spo_advantages and the loss. Seeds are rows of one
batch. Fixed points are theory: the minimax winner of rock-paper-scissors is uniform, that of an antisymmetric game with
margins a, b, c has the weights of the opposite margins.
"""

import pytest
import torch

from rl.methods.base import Batch
from rl.methods.spo import Spo, SpoConfig, spo_advantages, win_rates
from rl.ops.preference import exploitability

K = 8
ROCK_PAPER_SCISSORS = torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])
WEIGHTED = torch.tensor([[0.5, 0.4, 0.9], [0.6, 0.5, 0.3], [0.1, 0.7, 0.5]])  # R > S by .4, S > P by .2, P > R by .1
METHOD = Spo(SpoConfig(preference={"kind": "rewards"}, beta=0.0))


def compared(chances, arms, generator):
    """(S, K, K) outcomes of one Bernoulli comparison a pair; an arm against itself is a coin."""
    wins = torch.bernoulli(chances[arms.unsqueeze(2), arms.unsqueeze(1)], generator=generator)
    upper = wins.triu(1)
    return upper + (1 - upper).mT.tril(-1) + 0.5 * torch.eye(K)


def played(chances, *, steps, lr, entropy=0.0, start=(1.5, 0.0, -1.0), seeds=3):
    """(steps, seeds, arms) policies before each of the steps of plain gradient descent on the method's loss."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor(start).repeat(seeds, 1).requires_grad_()
    policies = []
    for _ in range(steps):
        logprobs = torch.log_softmax(logits, 1)
        policies.append(logprobs.detach().exp())
        arms = torch.multinomial(policies[-1], K, replacement=True, generator=generator)
        chosen = logprobs.gather(1, arms)
        rates = win_rates(compared(chances, arms, generator))
        advantages = spo_advantages(rates, -entropy * chosen.detach())
        loss, _ = METHOD.loss(one_token_batch(chosen.view(-1, 1), advantages.view(-1, 1)))
        (gradient,) = torch.autograd.grad(loss * seeds, logits)
        logits = (logits - lr * gradient).detach().requires_grad_()
    return torch.stack(policies)


def one_token_batch(logprobs, advantages):
    rows = len(logprobs)
    return Batch(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        advantages=advantages,
        mask=torch.ones(rows, 1),
        ref_logprobs=None,
        sampler_logprobs=None,
        total_tokens=torch.tensor(float(rows)),
        total_rows=rows,
        max_tokens=1,
    )


@pytest.fixture(scope="module")
def unregularized():
    """6000 steps of rock, paper, scissors from a policy that says rock."""
    return played(ROCK_PAPER_SCISSORS, steps=6000, lr=0.05)


def test_the_average_over_time_is_the_minimax_winner(unregularized):
    average = unregularized.mean(0)
    assert exploitability(average, ROCK_PAPER_SCISSORS).max() <= 0.06
    assert average.min() >= 0.25 and average.max() <= 0.42


def test_the_last_iterate_cycles_without_regularization(unregularized):
    """It passes each arm in turn, long after the start, and does not come to rest in the middle."""
    late = unregularized[3000:]
    assert 0.30 <= exploitability(late, ROCK_PAPER_SCISSORS).mean() <= 0.38
    assert (late.amax(0) > 0.6).all()


def test_entropy_makes_the_last_iterate_the_minimax_winner():
    last = played(ROCK_PAPER_SCISSORS, steps=2000, lr=0.05, entropy=0.3)[-1]
    assert exploitability(last, ROCK_PAPER_SCISSORS).max() <= 0.03


def test_a_reward_model_collapses_to_one_arm_where_the_game_has_none_that_is_best():
    """Bradley-Terry scores, fitted to comparisons of what the first policy says (rock, mostly), learn paper."""
    policy = torch.tensor([1.5, 0.0, -1.0]).softmax(0)
    seen = policy.unsqueeze(1) * policy
    scores = torch.zeros(3, requires_grad=True)
    for _ in range(2000):
        model = torch.sigmoid(scores.unsqueeze(1) - scores)
        likelihood = seen * (ROCK_PAPER_SCISSORS * model.log() + (1 - ROCK_PAPER_SCISSORS) * (1 - model).log())
        (gradient,) = torch.autograd.grad(likelihood.sum(), scores)
        scores = (scores + 0.5 * gradient).detach().requires_grad_()
    last = played(torch.sigmoid(scores.unsqueeze(1) - scores).detach(), steps=1000, lr=0.5)[-1]
    assert exploitability(last, ROCK_PAPER_SCISSORS).min() >= 0.45
    assert last[:, 1].min() >= 0.95


def test_weighted_margins_average_near_the_weights_of_the_opposite_margins():
    """(.2, .4, .1) / .7. Gradient steps on logits balance the average of pi_a ((C pi)_a - 1/2) and not that of
    (C pi)_a - 1/2, so wide orbits have an average beside the winner; a little entropy narrows them."""
    winner = torch.tensor([2.0, 4.0, 1.0]) / 7
    entropy = torch.tensor([[0.01]] * 3 + [[0.0]] * 3)
    little, none = played(WEIGHTED, steps=4000, lr=0.5, entropy=entropy, seeds=6).mean(0).split(3)
    assert (little - winner).abs().max() <= 0.03
    assert exploitability(little, WEIGHTED).max() <= 0.01
    assert (none - winner).abs().max() <= 0.15
    assert exploitability(none, WEIGHTED).max() <= 0.08


def test_the_best_of_eight_is_found_where_two_in_five_comparisons_are_wrong():
    places = torch.arange(8)
    chances = 0.5 + 0.1 * torch.sign(places - places.unsqueeze(1))
    assert played(chances, steps=1000, lr=0.5, start=(0.0,) * 8)[-1][:, 0].min() >= 0.95


def test_all_regularizers_together_lead_to_the_softer_games_fixed_point():
    """pi ~ ref^(beta / s) exp(r / s), s = beta + entropy, r = C pi; solved by damped iteration, without a gradient."""
    beta, entropy = 0.2, 0.1
    reference = torch.tensor([0.6, 0.1, 0.3])
    solution = torch.ones(3) / 3
    for _ in range(3000):
        pull = (reference.log() * beta + WEIGHTED @ solution) / (beta + entropy)
        solution = torch.softmax(0.98 * solution.log() + 0.02 * pull, 0)
    torch.manual_seed(0)
    logits = torch.zeros(3, requires_grad=True)
    policies = []
    for _ in range(1500):
        logprobs = torch.log_softmax(logits, 0)
        policies.append(logprobs.detach().exp())
        arms = torch.multinomial(policies[-1], 16, replacement=True)
        rates = win_rates(WEIGHTED[arms.unsqueeze(1), arms])
        own = logprobs.detach()[arms]
        bonus = -beta * (own - reference.log()[arms]) - entropy * own
        advantages = spo_advantages(rates.unsqueeze(0), bonus.unsqueeze(0))
        loss, _ = METHOD.loss(one_token_batch(logprobs[arms].unsqueeze(1), advantages.view(-1, 1)))
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 0.1 * gradient).detach().requires_grad_()
    torch.testing.assert_close(torch.stack(policies[500:]).mean(0), solution, atol=0.02, rtol=0)


def test_momentum_keeps_the_last_policy_from_coming_to_rest():
    """Adam as the trainer has it, a rate that falls to 0, KL to a start that hardly says rock: eight seeds each."""
    start = torch.tensor([0.04, 0.72, 0.24]).log()
    ends = {}
    for momentum in (0.0, 0.9):
        generator = torch.Generator().manual_seed(0)
        logits = start.repeat(8, 1).requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.1, betas=(momentum, 0.999))
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=150)
        for _ in range(150):
            logprobs = torch.log_softmax(logits, 1)
            arms = torch.multinomial(logprobs.detach().exp(), 32, replacement=True, generator=generator)
            chosen = logprobs.gather(1, arms)
            bonus = -0.1 * (chosen.detach() - start[arms])
            rates = win_rates(ROCK_PAPER_SCISSORS[arms.unsqueeze(2), arms.unsqueeze(1)])
            advantages = spo_advantages(rates, bonus)
            optimizer.zero_grad()
            METHOD.loss(one_token_batch(chosen.view(-1, 1), advantages.view(-1, 1)))[0].backward()
            optimizer.step()
            schedule.step()
        ends[momentum] = exploitability(torch.softmax(logits.detach(), 1), ROCK_PAPER_SCISSORS).mean()
    assert ends[0.0] <= 0.15 and ends[0.9] >= 0.2
