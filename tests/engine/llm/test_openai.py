"""The client against a real server on the loopback interface, which fails in every way it is told to."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from engine.errors import AnswerError, ConfigError, EngineError, InputError, LLMUnavailable
from engine.llm import OpenAILLM

ASK = [{"role": "user", "content": "?"}]
KEY = "sk-very-secret-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "minimum": 0}},
    "required": ["x"],
    "additionalProperties": False,
}


def client(endpoint: Any, **options: Any) -> OpenAILLM:
    return OpenAILLM("m", endpoint.url, KEY, **{"max_retries": 0, "timeout_s": 5.0, **options})


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def test_text_usage_and_cost(endpoint: Any) -> None:
    completion = client(endpoint, price=(1.0, 10.0), temperature=0.5).complete(ASK, max_tokens=9, seed=3)
    assert completion.texts == ("hello",) and completion.finish_reasons == ("stop",) and completion.parsed == ()
    assert (completion.usage.calls, completion.usage.prompt_tokens, completion.usage.completion_tokens) == (1, 7, 3)
    assert completion.usage.cost_usd == pytest.approx(37e-6)  # (7 * 1 + 3 * 10) dollars a million
    assert endpoint.requests == [{"model": "m", "messages": ASK, "temperature": 0.5, "max_tokens": 9, "seed": 3}]
    assert endpoint.keys == [f"Bearer {KEY}"]


def test_cost_is_unknown_without_a_price(endpoint: Any) -> None:
    assert client(endpoint).complete(ASK).usage.cost_usd is None


def test_n_choices_in_one_request(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer("a", "b", "c")]
    completion = client(endpoint).complete(ASK, n=3)
    assert completion.texts == ("a", "b", "c")
    assert endpoint.requests[0]["n"] == 3 and completion.usage.calls == 1


def test_n_choices_of_a_server_that_gives_one(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer("a"), endpoint.answer("b"), endpoint.answer("c")]
    completion = client(endpoint).complete(ASK, n=3)
    assert completion.texts == ("a", "b", "c") and completion.usage.calls == 3


def test_n_choices_of_a_server_that_refuses_n(endpoint: Any) -> None:
    endpoint.replies = [endpoint.refusal(400, "'n' is not supported"), endpoint.answer("a")]
    llm = client(endpoint)
    assert llm.complete(ASK, n=2).texts == ("a", "a")
    llm.complete(ASK, n=2)
    assert ["n" in request for request in endpoint.requests] == [True, False, False, False, False]


def test_schema_in_the_request_and_in_the_words(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer('{"x": 3}')]
    assert client(endpoint).complete(ASK, schema=SCHEMA).parsed == ({"x": 3},)
    sent = endpoint.requests[0]
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    assert '"minimum": 0' in sent["messages"][-1]["content"]


def test_formats_that_a_server_refuses_are_given_up_and_remembered(endpoint: Any) -> None:
    def picky(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        refuse = endpoint.refusal(400, "response_format is not supported here")
        (refuse if "response_format" in request else endpoint.answer('{"x": 3}'))(handler, request)

    endpoint.replies = [picky]
    llm = client(endpoint)
    assert llm.complete(ASK, schema=SCHEMA).parsed == ({"x": 3},)
    assert llm.complete(ASK, schema=SCHEMA).parsed == ({"x": 3},)
    kinds = [request.get("response_format", {}).get("type") for request in endpoint.requests]
    assert kinds == ["json_schema", "json_object", None, None]


def test_a_server_that_ignores_formats_is_read_tolerantly(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer("Sure!\n```json\n{'x': 3,}\n```")]
    assert client(endpoint).complete(ASK, schema=SCHEMA).parsed == ({"x": 3},)


def test_max_tokens_under_its_newer_name(endpoint: Any) -> None:
    text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    endpoint.replies = [endpoint.refusal(400, text), endpoint.answer("a")]
    assert client(endpoint).complete(ASK, max_tokens=5).text == "a"
    assert endpoint.requests[1]["max_completion_tokens"] == 5 and "max_tokens" not in endpoint.requests[1]


def test_one_repair_request_is_counted(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer('{"x": -1}'), endpoint.answer('{"x": 1}')]
    completion = client(endpoint).complete(ASK, schema=SCHEMA)
    assert completion.parsed == ({"x": 1},) and completion.usage.calls == 2
    assert "-1 is below the minimum 0" in endpoint.requests[1]["messages"][-1]["content"]


def test_good_choices_survive_bad_ones(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer('{"x": 1}', "no", "", '{"x": 4}'), endpoint.answer("still no", '{"x": 3}')]
    completion = client(endpoint).complete(ASK, schema=SCHEMA, n=4)
    assert completion.parsed == ({"x": 1}, {"x": 3}, {"x": 4})
    assert completion.rejected == ("the answer holds no JSON value",)
    assert endpoint.requests[1]["n"] == 2


def test_an_answer_cut_by_max_tokens_says_so(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer('{"x": 1', finish="length")]
    with pytest.raises(AnswerError, match="max_tokens was reached"):
        client(endpoint).complete(ASK, schema=SCHEMA)


def test_retry_after_is_respected(endpoint: Any) -> None:
    endpoint.replies = [endpoint.refusal(429, "slow down", retry_after="0.3"), endpoint.answer("late")]
    started = time.monotonic()
    assert client(endpoint, max_retries=1).complete(ASK).text == "late"
    assert time.monotonic() - started >= 0.3  # the server's wish is a lower bound, whatever the machine's speed


def test_a_server_error_is_tried_again(endpoint: Any) -> None:
    endpoint.replies = [endpoint.refusal(500, "oops"), endpoint.refusal(503, "oops"), endpoint.answer("ok")]
    assert client(endpoint, max_retries=2).complete(ASK).text == "ok"


def cut_body(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "1", "choi')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def test_a_connection_reset_mid_body_is_tried_again(endpoint: Any) -> None:
    endpoint.replies = [cut_body, endpoint.answer("ok")]
    assert client(endpoint, max_retries=1).complete(ASK).text == "ok"


FAULTS = {
    "wrong key": ((401, f"Incorrect API key provided: {KEY}"), "key is refused", "ENGINE_LLM_API_KEY"),
    "forbidden": ((403, "not yours"), "key is refused", "api_key="),
    "unknown model": ((404, "The model `m` does not exist"), "no model 'm'", "/models"),
    "bad request": ((400, "temperature must be below 2"), "temperature must be below 2", "correct the request"),
    "too long": ((400, "maximum context length is 9 tokens"), "context length", "correct the request"),
    "rate limit": ((429, "quota"), "too many requests", "max_requests_per_minute"),
    "server error": ((500, "boom"), "status 500", "server's log"),
}


@pytest.mark.parametrize(("reply", "message", "step"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["text", "schema"])
def test_a_refusal_is_one_clear_error(
    endpoint: Any, reply: tuple[int, str], message: str, step: str, schema: dict[str, Any] | None
) -> None:
    endpoint.replies = [endpoint.refusal(*reply)]
    with pytest.raises(LLMUnavailable) as caught:
        client(endpoint).complete(ASK, schema=schema, n=2)
    assert message in str(caught.value) and step in str(caught.value) and endpoint.url in str(caught.value)
    assert caught.value.exit_code == 3
    assert len(endpoint.requests) <= 4


def test_pages_that_are_no_completions(endpoint: Any) -> None:
    for body, kind in (("<html>hi</html>", "text/html"), ("{not json", "application/json"), ("{}", "application/json")):
        endpoint.replies = [endpoint.raw(200, body, kind)]
        with pytest.raises(LLMUnavailable, match="not a chat completion") as caught:
            client(endpoint).complete(ASK)
        assert "/v1" in str(caught.value)


def test_a_reset_connection_and_a_closed_port(endpoint: Any) -> None:
    endpoint.replies = [cut_body]
    with pytest.raises(LLMUnavailable, match="the connection broke"):
        client(endpoint).complete(ASK)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://user:pass@127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(LLMUnavailable, match="cannot be reached") as caught:
        OpenAILLM("m", address, max_retries=1).complete(ASK)
    assert "pass@" not in str(caught.value) and "start the server" in str(caught.value)


def test_a_slow_body_ends_at_the_timeout(endpoint: Any) -> None:
    release = threading.Event()

    def slow(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.flush()
        release.wait(20)

    endpoint.replies = [slow]
    with pytest.raises(LLMUnavailable, match=r"no answer within 0\.2 s"):
        client(endpoint, timeout_s=0.2).complete(ASK)
    release.set()


def test_the_key_leaks_nowhere(endpoint: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.replies = [endpoint.refusal(401, f"bad key {KEY}")]
    llm = client(endpoint)
    try:
        llm.complete(ASK)
    except EngineError as error:
        shown = "".join(traceback.format_exception(error))
        assert error.__context__ is None and error.__cause__ is None
    endpoint.replies = [endpoint.answer("ok")]
    completion = llm.complete(ASK)
    for text in (shown, caplog.text, repr(llm), llm.name, llm.place, repr(completion)):
        assert KEY not in text


def test_the_openai_key_goes_to_no_other_address(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    OpenAILLM("m", endpoint.url).complete(ASK)
    monkeypatch.setenv("ENGINE_LLM_API_KEY", "own")
    OpenAILLM("m", endpoint.url).complete(ASK)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    OpenAILLM("m").complete(ASK)
    assert endpoint.keys == ["Bearer none", "Bearer own", f"Bearer {KEY}"]


def test_concurrency_is_limited(endpoint: Any) -> None:
    def slow(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        time.sleep(0.05)
        endpoint.answer("ok")(handler, request)

    endpoint.replies = [slow]
    llm = client(endpoint, max_concurrency=2)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: llm.complete(ASK), range(8)))) == 8
    assert endpoint.most_at_once == 2


def test_bad_arguments_are_refused_before_any_request(endpoint: Any) -> None:
    llm = client(endpoint)
    with pytest.raises(InputError, match="Did you mean 'temperature'"):
        llm.complete(ASK, temprature=1)
    with pytest.raises(InputError, match="extra_headers"):
        llm.complete(ASK, extra_headers={"Authorization": "x"})
    with pytest.raises(InputError, match="messages is"):
        llm.complete("hello")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="n is 0"):
        llm.complete(ASK, n=0)
    with pytest.raises(InputError, match="not supported"):
        llm.complete(ASK, schema={"pattern": "x"})
    assert endpoint.requests == []


def test_no_key_and_a_bad_address() -> None:
    with pytest.raises(LLMUnavailable, match="OPENAI_API_KEY"):
        OpenAILLM("m")
    with pytest.raises(ConfigError, match="base_url is 'localhost:8000/v1'"):
        OpenAILLM("m", "localhost:8000/v1")


def test_parts_of_a_message_keep_their_shape(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer('{"x": 3}')]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    client(endpoint).complete([{"role": "user", "content": [image]}], schema=SCHEMA)
    first, told = endpoint.requests[0]["messages"][0]["content"]
    assert first == image and told["type"] == "text" and "JSON schema" in told["text"]


def test_connections_close_with_the_last_reference_also_after_a_failure(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer("ok"), endpoint.refusal(500, "boom")]
    llm = client(endpoint)
    llm.complete(ASK)
    with contextlib.suppress(LLMUnavailable):
        llm.complete(ASK)
    inner = llm._client
    assert not inner.is_closed()
    del llm
    gc.collect()
    assert inner.is_closed()
