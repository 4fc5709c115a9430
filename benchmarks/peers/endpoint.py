"""The one server that all optimizers ask: OpenAI's chat completions, a path for every run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Mapping[str, Any]], str]
"""The text of one choice for a request's body."""


class Endpoint:
    """Serves at /RUN/v1 for each run that is open; counts the choices that a run got, and gives no more than `calls`.

    Choices are counted, not requests: eight samples of one prompt are eight.
    """

    def __init__(self) -> None:
        self._runs: dict[str, tuple[Answer, int]] = {}
        self.given: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def open(self, run: str, answer: Answer, calls: int) -> str:
        """The base URL of a new run."""
        self._runs[run], self.given[run] = (answer, calls), 0
        return f"http://127.0.0.1:{self._server.server_address[1]}/{run}/v1"

    def close(self, run: str) -> None:
        """End a run and let its model go; `given` stays."""
        del self._runs[run]

    def reply(self, run: str, request: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body for a request."""
        if run not in self._runs:
            return 404, _error(f"no run {run}")
        answer, calls = self._runs[run]
        n = int(request.get("n") or 1)
        with self._lock:
            if self.given[run] + n > calls:
                return 403, _error("the calls of this run are spent")
            self.given[run] += n
            texts = [answer(request) for _ in range(n)]
        choices = [
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ]
        size = sum(len(str(m.get("content"))) for m in request["messages"]) // 4
        usage = {"prompt_tokens": size, "completion_tokens": sum(map(len, texts)) // 4, "total_tokens": size}
        head = {"id": run, "object": "chat.completion", "created": 0, "model": request.get("model", "")}
        return 200, {**head, "choices": choices, "usage": usage}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, reply = endpoint.reply(self.path.split("/")[1], json.loads(body))
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        return Handler


def _error(text: str) -> dict[str, Any]:
    return {"error": {"message": text, "type": "budget", "param": None, "code": None}}
