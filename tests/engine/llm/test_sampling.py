from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from engine.errors import InputError
from engine.llm.sampling import Sampler, Sampling, read_sampling


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors this small lose time on more threads, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draws(sampling: Sampling, logits: torch.Tensor, n: int = 4000, **options: torch.Tensor) -> Counter[int]:
    sampler = Sampler(sampling, 0, 0)
    return Counter(sampler.pick(logits, **options) for _ in range(n))


def test_frequencies_are_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -30.0])
    counts = draws(Sampling(temperature=0.5), logits)
    expected = torch.softmax(logits / 0.5, 0)
    # Four standard deviations of a binomial share at n = 4000 are below 0.032.
    assert all(abs(counts[i] / 4000 - float(expected[i])) < 0.032 for i in range(4))
    assert counts[3] == 0


def test_nucleus_is_the_smallest_set_that_holds_top_p() -> None:
    logits = torch.tensor([0.1, 0.5, 0.4]).log()
    assert set(draws(Sampling(top_p=0.6), logits, 400)) == {1, 2}
    assert set(draws(Sampling(top_p=0.45), logits, 400)) == {1}


def test_greedy_and_allowed() -> None:
    logits = torch.tensor([3.0, 2.0, 1.0, 2.5])
    assert Sampler(Sampling(temperature=0), 0, 0).pick(logits) == 0
    assert Sampler(Sampling(temperature=0), 0, 0).pick(logits, torch.tensor([1, 2])) == 1
    assert set(draws(Sampling(), logits, 400, allowed=torch.tensor([1, 2]))) == {1, 2}


def test_the_stream_is_that_of_seed_and_index_alone() -> None:
    logits = torch.zeros(1000)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = [Sampler(Sampling(), seed, index).pick(logits) for seed in range(3) for index in range(3)]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert [Sampler(Sampling(), seed, index).pick(logits) for seed in range(3) for index in range(3)] == first
    assert len(set(first)) > 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"top_p": 0}, "top_p is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop": [""]}, "stop is"),
        ({"temprature": 1}, "Did you mean 'temperature'"),
        ({"temperature": "hot"}, "sampling arguments"),
    ],
)
def test_bad_sampling_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_sampling(arguments)


def test_a_stop_text_may_stand_alone() -> None:
    assert read_sampling({"stop": "\n"}).stop == ("\n",)
    assert read_sampling({"stop": None, "seed": 3}) == Sampling(seed=3)
