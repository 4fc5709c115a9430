"""The connections to vLLM servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rl.policies._vllm.transport import KEPT_S, Transport


class Answering(BaseHTTPRequestHandler):
    """Answers everything, on connections that it keeps, and remembers from which port each request came."""

    protocol_version = "HTTP/1.1"
    ports: list[int] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.ports.append(self.client_address[1])
        body = b'{"choices": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    Answering.ports = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_connection_is_used_again_at_once_but_not_after_it_has_been_idle(url: str):
    transport = Transport([url], key=None, concurrency=1, timeout_s=10)
    body = {"model": "m", "prompt": "p"}
    try:
        sent = transport.send({0: body, 1: body}, [url])
        time.sleep(KEPT_S * 1.2)
        later = transport.send({2: body}, [url])
    finally:
        transport.close()
    assert sorted(sent.answers | later.answers) == [0, 1, 2]
    first, second, third = Answering.ports
    assert first == second != third
