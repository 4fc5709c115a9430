"""Token sampling against transformers' own warpers, softmax frequencies and hand-made cases."""

import math

import pytest
import torch
from scipy.stats import chisquare
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from rl.policies._sampling import Sampling, sample_tokens, truncate
from rl.types import Request


def _sampling(vocabulary: int, *settings: dict) -> Sampling:
    requests = [Request((1,), 1, 1, 0, **s) for s in settings]
    return Sampling.of(requests, vocabulary, torch.device("cpu"))


def _reference(logits: torch.Tensor, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) -> torch.Tensor:
    """The log-probs that transformers would sample from."""
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(None, scores)
    return scores.log_softmax(-1)


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 0.9},
        {"top_p": 0.1},
        {"top_k": 5},
        {"min_p": 0.2},
        {"top_k": 20, "top_p": 0.7},
        {"top_k": 30, "top_p": 0.95, "min_p": 0.05, "temperature": 1.7},
        {"temperature": 0.5, "top_p": 0.99},
        {"top_k": 2000, "top_p": 0.8},
        {"top_k": 10**9},
    ],
)
def test_support_and_probabilities_are_those_of_transformers(settings):
    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)) * 2
    sampling = _sampling(3000, *[settings] * 4)
    ours = truncate((logits / sampling.temperature).log_softmax(-1), sampling)
    reference = _reference(logits, **{"top_k": 0} | settings | {"top_k": min(settings.get("top_k", 0), 3000)})
    assert torch.equal(ours.isfinite(), reference.isfinite())
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_rows_of_different_settings_do_not_touch_each_other():
    logits = torch.randn(5, 2500, generator=torch.Generator().manual_seed(1))
    settings = [{}, {"top_p": 0.97}, {"top_k": 3}, {"min_p": 0.3}, {"temperature": 0.7}]
    sampling = _sampling(2500, *settings)
    together = truncate((logits / sampling.temperature).log_softmax(-1), sampling)
    for row, own in enumerate(settings):
        torch.testing.assert_close(together[row], _reference(logits[row : row + 1], **own)[0], atol=1e-5, rtol=1e-5)


def test_frequencies_follow_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -0.5, 1.5, 0.2]])
    draws = 20_000
    uniforms = torch.rand(draws, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for temperature in (1.0, 0.6):
        sampling = _sampling(8, *[{"temperature": temperature}] * draws)
        tokens, logprobs = sample_tokens(logits.expand(draws, -1), uniforms, sampling)
        expected = (logits[0].double() / temperature).softmax(-1)
        assert chisquare(torch.bincount(tokens, minlength=8), expected.numpy() * draws).pvalue > 0.01
        torch.testing.assert_close(logprobs, expected.log()[tokens].float())


def test_the_ends_of_the_unit_interval_draw_tokens_that_have_probability():
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(2, -1)
    uniforms = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = sample_tokens(logits, uniforms, _sampling(5, {}, {}))
    assert tokens.tolist() == [1, 3]
    assert logprobs.tolist() == pytest.approx([math.log(0.5)] * 2)


def test_greedy_takes_the_largest_and_reports_the_models_own_logprob():
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    sampling = _sampling(3, {"temperature": 0.0, "top_k": 1}, {"top_k": 1})
    tokens, logprobs = sample_tokens(logits, torch.tensor([0.999, 0.999], dtype=torch.float64), sampling)
    assert tokens.tolist() == [1, 1]
    assert logprobs[0].item() == pytest.approx(2 - math.log(1 + math.e + math.e**2))
    assert logprobs[1].item() == pytest.approx(0.0)
