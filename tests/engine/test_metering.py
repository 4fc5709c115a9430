from __future__ import annotations

import threading

import pytest

from engine.budget import Budget, Ledger, LimitReached
from engine.errors import AnswerError, LLMUnavailable
from engine.llm import LLM, Completion, ScriptedLLM, Usage
from engine.llm.base import Request
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


@pytest.mark.parametrize("budget", [{"calls": 1}, {"tokens": 700}, {"usd": 0.0011}], ids=str)
def test_a_repair_that_the_budget_does_not_pay_for_is_not_sent(budget):
    model = ScriptedLLM(["nothing", {"a": 1}])
    model.price = (1.0, 1.0)  # a dollar a million tokens: 600 tokens are 0.0006
    llm, ledger = metered(model, **budget)
    with pytest.raises(AnswerError, match="the budget pays for no repair request"):
        llm.complete(ASK, schema=SCHEMA)
    assert len(model.sent) == 1 and ledger.spent()["calls"] == 1
    assert all(ledger.spent()[name] <= limit for name, limit in budget.items())


def test_good_choices_are_kept_where_the_repair_of_others_is_not_paid_for():
    llm, _ = metered(ScriptedLLM([{"a": 1}, "no", {"a": 3}]), calls=1)
    completion = llm.complete(ASK, schema=SCHEMA, n=3)
    assert completion.parsed == ({"a": 1}, {"a": 3}) and len(completion.rejected) == 1


def test_a_further_request_for_choices_that_are_missing_is_paid_for_or_not_sent():
    from engine.llm import OpenAILLM
    from engine.testing import Server, random_values

    with Server(random_values, faults={"wrong_n": 1.0}) as server:
        llm, ledger = metered(OpenAILLM("m", server.url), calls=2)
        assert len(llm.complete(ASK, n=4).texts) == 4  # 3 in the first answer, of the 1 more 3 in the second
        assert ledger.spent()["calls"] == server.answered == 2
        llm, ledger = metered(OpenAILLM("m", server.url), calls=1)
        assert len(llm.complete(ASK, n=4).texts) == 3
        assert ledger.spent()["calls"] == 1 and server.answered == 3


def test_a_known_price_is_reserved_before_the_first_call():
    model = Priced(Usage(1, 100, 200, 0.0, 0.0005))
    model.price = (1.0, 2.0)
    llm, _ = metered(model, usd=0.0004)
    with pytest.raises(LimitReached, match="usd"):  # 100 tokens at 1 and 200 at 2 dollars a million: 0.0005
        llm.complete(ASK, max_tokens=200)


def test_a_prompt_that_took_more_than_estimated_raises_later_estimates_also_after_a_resume():
    llm, _ = metered(Priced(Usage(1, 250, 10)), tokens=1000)
    llm.complete(ASK, max_tokens=200)  # 100 tokens were estimated
    assert llm.rates() == {"dearest": 0.0, "factor": 2.5}
    again, ledger = metered(Priced(Usage(1, 250, 10)), tokens=449)
    again.load({"calls": 1}, llm.rates())
    with pytest.raises(LimitReached, match="450 more"):
        again.complete(ASK, max_tokens=200)
    assert ledger.spent()["tokens"] == 0


class Meeting(LLM):
    """A remote model that answers only when `together` requests are under way."""

    name, is_remote = "meeting", True

    def __init__(self, together):
        self.barrier = threading.Barrier(together, timeout=10)

    def complete(self, messages, *, schema=None, n=1, **sampling):
        self.barrier.wait()
        return Completion((f"{messages[0]['content']}/{sampling['seed']}",), ("stop",), usage=Usage(1, 1, 1))


def requests(count):
    return [Request([{"role": "user", "content": str(i)}], 2, {"max_tokens": 10}) for i in range(count)]


def test_requests_are_asked_at_the_same_time_and_seeded_in_order():
    llm, ledger = metered(Meeting(3))
    together = [completion.text for completion in llm.complete_all(requests(3))]
    alone, _ = metered(Meeting(1))
    assert together == [alone.complete(r.messages, n=2, **r.sampling).text for r in requests(3)]
    assert ledger.spent()["calls"] == 3


@pytest.mark.parametrize("budget", [{"calls": 5}, {"tokens": 125}], ids=str)
def test_requests_are_asked_one_by_one_where_the_budget_might_end(budget):
    # Each might take two requests, of 1 + 2 * 10 tokens: 6 calls or 126 tokens.
    llm, _ = metered(Meeting(1), **budget)
    assert len(list(llm.complete_all(requests(3)))) == 3
    llm, _ = metered(Meeting(3), **{name: limit + 1 for name, limit in budget.items()})
    assert len(list(llm.complete_all(requests(3)))) == 3


def test_requests_beyond_the_budget_come_to_an_error_after_those_that_it_paid_for():
    llm, _ = metered(Meeting(1), calls=2)
    found = llm.complete_all(requests(3))
    assert [next(found).text[0], next(found).text[0]] == ["0", "1"]
    with pytest.raises(LimitReached):
        next(found)
