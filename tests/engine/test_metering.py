from __future__ import annotations

import pytest

from engine.budget import Budget, Ledger, LimitReached
from engine.errors import AnswerError, LLMUnavailable
from engine.llm import LLM, Completion, ScriptedLLM, Usage
from engine.metering import MeteredLLM

ASK = [{"role": "user", "content": "x" * 300}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


class Priced(LLM):
    name = "priced"

    def __init__(self, *usages):
        self.usages, self.sampling = list(usages), []

    def complete(self, messages, *, schema=None, n=1, **sampling):
        self.sampling.append(sampling)
        return Completion(("a",) * n, ("stop",) * n, usage=self.usages.pop(0))


def metered(llm, **budget):
    ledger = Ledger(Budget(**budget))
    return MeteredLLM(llm, ledger), ledger


def test_an_estimate_is_reserved_and_the_rest_refunded():
    llm, ledger = metered(Priced(Usage(1, 90, 10)), tokens=300)
    llm.complete(ASK, max_tokens=200)  # 300 characters are about 100 tokens, and 200 to come
    assert ledger.spent()["tokens"] == 100 and ledger.spent()["calls"] == 1
    with pytest.raises(LimitReached, match="budget of tokens"):
        llm.complete(ASK, max_tokens=200)
    assert ledger.spent()["tokens"] == 100


def test_the_dearest_call_so_far_is_reserved_before_the_next():
    llm, ledger = metered(Priced(*[Usage(1, 1, 1, 0.0, 0.4)] * 3), usd=1.0)
    llm.complete(ASK)
    llm.complete(ASK)
    with pytest.raises(LimitReached, match="usd"):
        llm.complete(ASK)
    assert ledger.spent()["usd"] == pytest.approx(0.8) and llm.usage.cost_usd == pytest.approx(0.8)


def test_a_repair_request_counts_as_a_call():
    llm, ledger = metered(ScriptedLLM(["nothing", {"a": 1}, "no", "never"]), calls=9)
    assert llm.complete(ASK, schema=SCHEMA).parsed == ({"a": 1},)
    assert ledger.spent()["calls"] == 2
    with pytest.raises(AnswerError):
        llm.complete(ASK, schema=SCHEMA)
    assert ledger.spent()["calls"] == 4 and llm.usage.calls == 4


def test_a_call_that_was_not_answered_costs_nothing():
    llm, ledger = metered(ScriptedLLM([LLMUnavailable("down")]), calls=1)
    with pytest.raises(LLMUnavailable):
        llm.complete(ASK)
    assert ledger.spent()["calls"] == 0 and ledger.spent()["tokens"] == 0


def test_each_call_has_a_seed_of_its_own_that_a_repeated_step_repeats():
    model = Priced(*[Usage(1)] * 6)
    llm, _ = metered(model)
    for step in (1, 2, 1):
        llm.begin_step(step)
        llm.complete(ASK)
        llm.complete(ASK)
    seeds = [sampling["seed"] for sampling in model.sampling]
    assert len(set(seeds[:4])) == 4 and seeds[4:] == seeds[:2]
    assert all(0 <= seed < 2**31 for seed in seeds)
