"""Log-probs from hidden states against torch's log_softmax; chunks change memory, not values."""

import pytest
import torch
from torch import nn

from rl.ops.logprobs import token_logprobs

PLACES, TARGETS, HIDDEN, VOCABULARY = 7, 11, 5, 13


@pytest.fixture
def task():
    torch.manual_seed(0)
    hidden = torch.randn(PLACES, HIDDEN, requires_grad=True)
    place = torch.randint(0, PLACES, (TARGETS,)).sort().values
    return hidden, nn.Linear(HIDDEN, VOCABULARY), place, torch.randint(0, VOCABULARY, (TARGETS,))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_equals_log_softmax(task, rows, temperature):
    hidden, head, place, token = task
    ours, entropy = token_logprobs(
        hidden, head, place, token, temperature=temperature, vocabulary=VOCABULARY, max_logits=rows * VOCABULARY
    )
    whole = torch.log_softmax(head(hidden) / temperature, dim=-1)
    torch.testing.assert_close(ours, whole[place, token])
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=whole).entropy())
    weights = torch.linspace(-1, 1, TARGETS)
    leaves = [hidden, head.weight]
    mine = torch.autograd.grad(weights @ ours, leaves, retain_graph=True)
    torch.testing.assert_close(mine, torch.autograd.grad(weights @ whole[place, token], leaves))


def test_a_place_without_target_is_allowed(task):
    hidden, head, _, _ = task
    place, token = torch.tensor([5]), torch.tensor([1])
    ours, _ = token_logprobs(hidden, head, place, token, vocabulary=VOCABULARY, max_logits=2 * VOCABULARY)
    torch.testing.assert_close(ours, torch.log_softmax(head(hidden), -1)[place, token])


def test_at_most_the_allowed_logits_exist_at_once(task):
    hidden, head, place, token = task
    sizes = []

    def watched(states):
        sizes.append(states.shape[0] * VOCABULARY)
        return head(states)

    logprobs, _ = token_logprobs(hidden, watched, place, token, vocabulary=VOCABULARY, max_logits=3 * VOCABULARY)
    forwards = len(sizes)
    logprobs.sum().backward()
    assert max(sizes) <= 3 * VOCABULARY
    assert len(sizes) == 2 * forwards  # each chunk once more in the backward pass


def test_half_precision_hidden_states_give_float32(task):
    hidden, head, place, token = task
    logprobs, _ = token_logprobs(hidden.bfloat16(), head.bfloat16(), place, token, vocabulary=VOCABULARY)
    assert logprobs.dtype == torch.float32
