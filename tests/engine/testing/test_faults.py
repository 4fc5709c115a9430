"""Each injected fault alone against the client: an answer, a repaired one, or one clear error - never a crash."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import LLMUnavailable
from engine.llm import OpenAILLM
from engine.llm.schema import faults as faults_of
from engine.llm.structured import MalformedAnswer
from engine.testing import FAULTS, Server, random_values

KEY = "sk-very-secret-0123456789"
ASK = [{"role": "user", "content": "Where to?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "x": {"type": "integer", "minimum": 0, "maximum": 9},
        "to": {"enum": ["north", "south"]},
        "why": {"type": "string"},
    },
    "required": ["x", "to", "why"],
    "additionalProperties": False,
}
ANSWER_FAULTS = [name for name, fault in FAULTS.items() if not fault.is_connection]
CONNECTION_FAULTS = [name for name, fault in FAULTS.items() if fault.is_connection]
READABLE = {
    *("closed_thinking", "prose_around", "code_fence", "duplicate", "endless_answer", "wrong_n", "missing_usage"),
    "slow_body",
}
"""Faults of an answer that can be read all the same."""


def server(faults: dict[str, float], seed: int = 0) -> Server:
    return Server(random_values, faults=faults, seed=seed, hang_s=0.5, drip_s=0.02, retry_after_s=0.01)


def client(on: Server, **options: Any) -> OpenAILLM:
    return OpenAILLM("m", on.url, KEY, **{"timeout_s": 5.0, "max_retries": 6, **options})


@pytest.mark.parametrize("name", ANSWER_FAULTS)
def test_a_model_that_is_always_wrong(name: str) -> None:
    with server({name: 1.0}) as at:
        llm = client(at)
        if name in READABLE:
            answer = llm.complete(ASK, schema=SCHEMA, n=2, seed=1, max_tokens=200)
            assert len(answer.parsed) == 2 and all(list(faults_of(value, SCHEMA)) == [] for value in answer.parsed)
            assert answer.rejected == () and answer.usage.calls == (2 if name == "wrong_n" else 1)
        else:
            with pytest.raises(MalformedAnswer, match="also after one repair request") as caught:
                llm.complete(ASK, schema=SCHEMA, n=2, seed=1)
            assert caught.value.usage.calls == 2 and len(caught.value.texts) == 2
        assert at.answered == (2 if name == "wrong_n" or name not in READABLE else 1)


@pytest.mark.parametrize("name", sorted(set(ANSWER_FAULTS) - READABLE))
def test_a_model_that_is_sometimes_wrong_is_repaired_sometimes(name: str) -> None:
    calls = set()
    with server({name: 0.5}) as at:
        llm = client(at)
        for seed in range(14):
            try:
                answer = llm.complete(ASK, schema=SCHEMA, seed=seed)
            except MalformedAnswer as error:
                assert error.usage.calls == 2
                calls.add("lost")
            else:
                assert list(faults_of(answer.parsed[0], SCHEMA)) == []
                calls.add(answer.usage.calls)
    assert calls == {1, 2, "lost"}


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_an_endpoint_that_fails_sometimes_gives_the_same_answers_in_the_end(name: str) -> None:
    with server({}) as at:
        expected = [client(at).complete(ASK, seed=seed).texts for seed in range(6)]
    with server({name: 0.5}, seed=0) as at:
        llm = client(at, timeout_s=0.3 if name == "hang" else 5.0)
        found = [llm.complete(ASK, seed=seed) for seed in range(6)]
        assert [answer.texts for answer in found] == expected
        assert at.counts[name] >= 2 and all(answer.usage.calls == 1 for answer in found)


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["text", "schema"])
def test_an_endpoint_that_always_fails_is_one_clear_error(name: str, schema: dict[str, Any] | None) -> None:
    with server({name: 1.0}) as at:
        llm = client(at, max_retries=1, timeout_s=0.15 if name == "hang" else 5.0)
        with pytest.raises(LLMUnavailable) as caught:
            llm.complete(ASK, schema=schema, n=2)
        assert type(caught.value) is LLMUnavailable and at.url in str(caught.value) and KEY not in str(caught.value)
        assert len(at.calls) == 2 and caught.value.exit_code == 3


def test_a_slow_body_is_waited_for_as_long_as_it_moves() -> None:
    with Server(random_values, faults={"slow_body": 1.0}, drip_s=0.8) as at:
        assert client(at, timeout_s=0.4, max_retries=0).complete(ASK).texts[0]  # the silence of 0.1 s is the timeout's


def test_plain_answers_keep_what_was_said() -> None:
    said = {}
    for name in ANSWER_FAULTS:
        with server({name: 1.0}) as at:
            answer = client(at).complete(ASK, seed=1, max_tokens=20)
            said[name] = (answer.texts[0], answer.finish_reasons[0])
            assert answer.usage.prompt_tokens > 0, "tokens that the server does not tell are estimated"
    with server({}) as at:
        right = client(at).complete(ASK, seed=1, max_tokens=20).texts[0]
    assert said["empty_answer"] == said["null_content"] == ("", "stop")
    assert said["length_cut"] == (right[: len(right) // 2], "length")
    assert said["missing_usage"] == said["wrong_n"] == (right, "stop")
    assert said["lone_surrogates"] == (right + "\ud800", "stop")
    text, finish = said["endless_answer"]
    assert finish == "length" and len(text) == 20 * 32 and text.startswith(right)


def test_both_kinds_of_refusal_are_seen() -> None:
    with server({"refusal": 1.0}) as at:
        answers = [client(at).complete(ASK, seed=seed) for seed in range(8)]
    assert {answer.finish_reasons[0] for answer in answers} == {"stop", "refusal"}
    assert all("can't help" in answer.text for answer in answers)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_or_too_many_choices_become_as_many_as_asked_for(n: int) -> None:
    with server({"wrong_n": 1.0}) as at:
        answer = client(at).complete(ASK, n=n, seed=3)
        assert len(answer.texts) == len(answer.finish_reasons) == n
        assert answer.usage.calls == at.answered
        seeds = [call.request["seed"] for call in at.calls]
        assert len(set(seeds)) == len(seeds), "a further request of the same seed would give the same choice"


def test_a_text_with_halves_of_surrogate_pairs_can_be_sent_back() -> None:
    with server({}) as at:
        answer = client(at).complete([{"role": "assistant", "content": "a\ud800"}, *ASK], seed=1)
        assert at.calls[0].request["messages"][0]["content"] == "a?" and answer.text
