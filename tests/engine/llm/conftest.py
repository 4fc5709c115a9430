"""A chat endpoint on the loopback interface that answers, or fails, as it is told; a tiny random model over bytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def answer(*texts: str, finish: str = "stop") -> Reply:
    """A chat completion with these choices; 7 prompt tokens and 3 completion tokens a choice."""
    choices = [
        {"index": i, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 3 * len(texts), "total_tokens": 7 + 3 * len(texts)}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
    return raw(200, json.dumps(body))


def refusal(status: int, message: str, **headers: str) -> Reply:
    return raw(status, json.dumps({"error": {"message": message, "type": "error", "code": None}}), **headers)


def raw(status: int, body: str, content_type: str = "application/json", **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        data = body.encode()
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return reply


class Endpoint:
    """`replies` are used one a request, the last one for all further requests; `requests` are the bodies."""

    # Tests cannot import a conftest; they reach the replies here.
    answer, refusal, raw = staticmethod(answer), staticmethod(refusal), staticmethod(raw)

    def __init__(self) -> None:
        self.replies: list[Reply] = [answer("hello")]
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(endpoint) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint._lock:
                    endpoint.requests.append(request)
                    endpoint.keys.append(self.headers.get("Authorization", ""))
                    reply = endpoint.replies[0] if len(endpoint.replies) == 1 else endpoint.replies.pop(0)
                    endpoint._now += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint._now)
                try:
                    reply(self, request)
                except OSError:
                    self.close_connection = True  # the client gave up, as some tests want
                finally:
                    with endpoint._lock:
                        endpoint._now -= 1

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A four-layer Llama over bytes with random weights, in which token i is byte i."""
    from tests.engine.llm import byte_llama  # loads torch, which most of these tests do without

    names = {chr(b): b for b in (*range(33, 127), *range(161, 173), *range(174, 256))}
    rest = [b for b in range(256) if b not in names.values()]
    names |= {chr(256 + place): b for place, b in enumerate(rest)}
    # So large that what is steered changes what is said.
    sizes = {"num_hidden_layers": 4, "initializer_range": 0.3}
    return byte_llama.saved(tmp_path_factory.mktemp("bytes"), positions=512, vocabulary=names, **sizes)
