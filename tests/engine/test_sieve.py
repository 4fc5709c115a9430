from __future__ import annotations

import pytest

from engine import trace
from engine.optimizers import Candidate
from engine.sieve import Sieve, is_proposable


@trace.node(trainable=True)
def helper(x):
    return x


class Agent:
    @trace.node(trainable=True)
    def act(self, x):
        return x


@pytest.fixture
def sieve():
    return Sieve([trace.param(1, name="size", ge=0, le=9), trace.param("a", name="word"), helper.code, Agent.act.code])


CURRENT = {"size": 1, "word": "a", "helper": "def helper(x):\n    return x\n", "act": Agent.act.code.value}


def reasons(sieved):
    return [refused.reason for refused in (*sieved.invalid, *sieved.duplicates)]


def test_values_are_normalised_and_filled_up(sieve):
    (found,) = sieve([Candidate({"size": "3"}, "why")], CURRENT).fresh
    assert found.values == {**CURRENT, "size": 3} and found.reason == "why"


def test_duplicates_are_equal_after_normalisation_also_to_what_was_seen_before(sieve):
    sieve.saw(CURRENT)
    sieved = sieve([Candidate({"size": 1}), Candidate({"size": 2}), Candidate({"size": 2.0}), Candidate({})], CURRENT)
    assert len(sieved.fresh) == 1 and reasons(sieved) == ["these values were tried before"] * 3


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"size": 10}, "size: 10 is above 9"),
        ({"size": 5.7}, "is no integer"),
        ({"word": 3}, "is no text"),
        ({"wrd": "b"}, "no parameter 'wrd'. Did you mean 'word'? There are: size, word, helper, act"),
        ({"helper": "def helper(y):\n    return 0"}, "helper: the function's parameters changed from 'x' to 'y'"),
        ({"helper": "def helper(x):\n    return pytest.main()"}, "helper uses the module `pytest`, which the sandbox"),
        ({"helper": "def helper(x):\n    import os"}, "helper imports `os`"),
        ({"act": "def act(self, x):\n    return 0"}, "act: a version of a model would run in the sandbox, and its"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(sieve, values, reason):
    sieved = sieve([Candidate(values)], CURRENT)
    assert not sieved.fresh and reason in reasons(sieved)[0]


def test_code_is_taken_out_of_its_fence_and_told_from_what_was_seen(sieve):
    sieve.saw(CURRENT)
    code = "def helper(x):\n    return 'it\\'s \"x\"'\n"
    fenced = {"helper": f"```python\n{code}```"}
    sieved = sieve([Candidate(fenced), Candidate({"helper": code}), Candidate({"helper": CURRENT["helper"]})], CURRENT)
    assert [found.values["helper"] for found in sieved.fresh] == [code]
    assert reasons(sieved) == ["these values were tried before"] * 2


def test_a_fault_and_an_empty_list_count_as_invalid(sieve):
    assert reasons(sieve([Candidate({}, fault="no JSON")], CURRENT)) == ["no JSON"]
    assert reasons(sieve([], CURRENT)) == ["the optimizer proposed nothing"]


def test_code_is_proposable_that_the_sandbox_can_run_and_weights_are_not():
    assert is_proposable(helper.code)
    assert not is_proposable(Agent.act.code)
    assert not is_proposable(trace.param([1.0], name="w", kind="weights"))
    assert is_proposable(trace.param(1, name="n"))
