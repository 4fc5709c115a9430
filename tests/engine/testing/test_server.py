"""The test server keeps the API's contract, and does to a request what (seed, body, occurrence) say."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest

from engine.errors import InputError, UnknownName
from engine.llm import OpenAILLM
from engine.testing import FAULTS, Server, echo, random_values

ASK = [{"role": "user", "content": "one two three four"}]


def asked(server: Server, body: Any, path: str = "/chat/completions") -> tuple[int, Any]:
    """Status and JSON body of a plain HTTP request."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(server.url + path, data, {"Content-Type": "application/json"})) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_completion_has_the_form_of_the_api() -> None:
    with Server(echo) as server:
        status, answer = asked(server, {"model": "m", "messages": ASK})
    assert status == 200 and answer["object"] == "chat.completion" and answer["model"] == "m"
    choice = answer["choices"][0]
    assert choice["message"]["content"] == "one two three four" and choice["finish_reason"] == "stop"
    # 18 characters are 5 tokens of 4, in the prompt and in the answer
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}


@pytest.mark.parametrize(
    ("options", "text", "finish"),
    [
        ({"stop": "three"}, "one two ", "stop"),
        ({"stop": ["x", " two"]}, "one", "stop"),
        ({"max_tokens": 2}, "one two ", "length"),
        ({"max_completion_tokens": 1}, "one ", "length"),
        ({"max_tokens": 5}, "one two three four", "stop"),
    ],
)
def test_stop_and_max_tokens_are_kept(options: dict[str, Any], text: str, finish: str) -> None:
    with Server(echo) as server:
        choice = asked(server, {"messages": ASK, **options})[1]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, finish)


def test_the_official_client_reads_models_and_choices() -> None:
    with Server(random_values, model="tiny") as server, openai.OpenAI(api_key="k", base_url=server.url) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        answer = client.chat.completions.create(model="tiny", messages=ASK, n=4, seed=1)
    assert len({choice.message.content for choice in answer.choices}) > 1


@pytest.mark.parametrize(
    ("body", "path", "status", "words"),
    [
        ({"messages": ASK, "stream": True}, "/chat/completions", 400, "stream"),
        ({"messages": []}, "/chat/completions", 400, "messages"),
        ([1], "/chat/completions", 400, "messages"),
        ({"messages": ASK, "n": 0.5}, "/chat/completions", 400, "'n' is 0.5"),
        ({"messages": ASK}, "/completions", 404, "no such address"),
        (None, "/nothing", 404, "no such address"),
    ],
)
def test_what_it_cannot_do_it_says(body: Any, path: str, status: int, words: str) -> None:
    with Server(echo) as server:
        found, answer = asked(server, body, path)
    assert found == status and words in answer["error"]["message"]


def test_equal_requests_with_a_seed_are_answered_equally_and_others_are_not() -> None:
    with Server(random_values, seed=1) as server:
        with_seed = [asked(server, {"messages": ASK, "seed": 5})[1] for _ in range(3)]
        without = [asked(server, {"messages": ASK})[1]["choices"][0]["message"]["content"] for _ in range(8)]
        assert with_seed[0] == with_seed[1] == with_seed[2]
        assert len(set(without)) > 1
        assert [call.occurrence for call in server.calls] == [0, 1, 2, *range(8)]


def test_what_happens_does_not_hang_on_the_order_of_threads() -> None:
    def happened(order: list[int], workers: int) -> dict[tuple[str, int], Any]:
        with Server(random_values, faults=0.9, seed=3, hang_s=0.05, drip_s=0.01) as server:
            llm = OpenAILLM("m", server.url, max_retries=0, timeout_s=5.0)

            def ask(number: int) -> None:
                try:
                    llm.complete(ASK, seed=number % 40, n=2)
                except Exception as error:
                    assert type(error).__name__ == "LLMUnavailable"

            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(ask, order))
            return {(c.digest, c.occurrence): (c.fault, c.status, c.texts) for c in server.calls}

    one, other = happened(list(range(80)), 1), happened(list(range(79, -1, -1)), 16)
    # Where a server gave too few choices there were further requests, the same in both.
    assert one == other and len(one) >= 80
    assert len({fault for fault, _, _ in one.values()}) > 15


def test_the_shares_of_faults_are_kept() -> None:
    rates = {"rate_limit": 0.2, "prose_around": 0.3}
    server = Server(echo, faults=rates)
    found = [server.answer({"messages": ASK, "seed": number}).status for number in range(2000)]
    # standard errors are 0.009 and 0.010; four of them
    assert abs(found.count(429) / 2000 - 0.2) < 0.036
    assert abs(server.counts["prose_around"] / 2000 - 0.3) < 0.041
    assert server.counts["rate_limit"] == found.count(429) and server.answered == 2000 - found.count(429)


def test_another_try_may_go_well_but_a_model_repeats_its_faults() -> None:
    server = Server(echo, faults={"server_error": 0.5, "empty_answer": 0.25})
    by_request = [[server.answer({"messages": ASK, "seed": n}) for _ in range(12)] for n in range(40)]
    faults = [{call.fault for call in server.calls if call.request["seed"] == n} for n in range(40)]
    assert all("server_error" in found and len(found) == 2 for found in faults), by_request
    assert 8 <= sum("empty_answer" in found for found in faults) <= 32  # of 40, half


def test_forty_slow_requests_are_answered_together() -> None:
    with Server(echo, latency_s=0.4) as server:
        llm = OpenAILLM("m", server.url, max_retries=0)
        with ThreadPoolExecutor(40) as pool:
            texts = list(pool.map(lambda n: llm.complete([{"role": "user", "content": f"{n}"}]).text, range(40)))
        assert texts == [str(n) for n in range(40)] and server.most_at_once == 40


@pytest.mark.parametrize(
    ("faults", "error", "words"),
    [
        ({"rate_limt": 0.1}, UnknownName, "Did you mean 'rate_limit'"),
        ({"rate_limit": 1.5}, InputError, "allowed: 0 to 1"),
        (-0.1, InputError, "0 to 1"),
        ({"rate_limit": 0.7, "hang": 0.7}, InputError, "add up to 1.4"),
    ],
)
def test_bad_faults_are_refused(faults: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Server(echo, faults=faults)


def test_an_address_before_the_start_is_refused() -> None:
    with pytest.raises(InputError, match="not started"):
        _ = Server(echo).url


def test_every_fault_has_a_description_and_its_own_name() -> None:
    assert len(FAULTS) >= 20
    assert all(fault.description.endswith(".") and fault.name == name for name, fault in FAULTS.items())


def test_it_is_imported_without_anything_heavy() -> None:
    heavy = ["torch", "transformers", "vllm", "openai", "datasets", "trl", "peft", "starlette", "uvicorn"]
    program = f"import sys, engine.testing; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
