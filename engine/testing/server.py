"""An OpenAI-compatible endpoint on this machine, for tests: as good, as slow and as faulty as it is told to be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from engine.errors import InputError, UnknownName
from engine.testing.draft import Draft
from engine.testing.faults import FAULTS, Fault

Skill = Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], str]
"""(messages, request) -> the text of one choice; see engine.testing.skills."""


@dataclass(frozen=True)
class Call:
    """One request that came in.

    `digest`: of its body; `occurrence`: how many equal ones came before; `fault`: the name of what was done to
    the answer, or None; `texts`: what was sent, a choice each.
    """

    request: Mapping[str, Any]
    digest: str
    occurrence: int
    fault: str | None
    status: int
    texts: tuple[str | None, ...]

    @property
    def is_answered(self) -> bool:
        """Whether a completion was sent whole, which is what a provider would bill."""
        return self.fault is None or not FAULTS[self.fault].is_connection


class Server:
    """A chat endpoint on the loopback interface, in threads of its own, between `with` and its end.

    skill: what it answers: (messages, request) -> text. latency_s: seconds before each answer.
    faults: the share of requests that are answered wrongly, spread evenly over all FAULTS, or {name: share}.
    retry_after_s: what is told with the statuses 429, 500 and 503. drip_s: seconds that a slow body takes. hang_s: the
    longest silence of a hanging request.

    What happens to a request depends on (seed, its body, how often that body came before) alone, not on time or the
    order of threads: the answer and its fault on seed and body, and on the number of equal ones before only where the
    request has no `seed`; faults of the connection on all three, so that another try of the same request may go well.

    Honours n, stop, max_tokens (or max_completion_tokens) and seed; response_format is the skill's affair.
    GET /v1/models lists the one model. Streaming is refused. `calls` holds what came in, `counts` how often
    each fault was injected, `most_at_once` how many requests were under way together.
    """

    def __init__(
        self,
        skill: Skill,
        *,
        latency_s: float = 0.0,
        faults: float | Mapping[str, float] = 0.0,
        seed: int = 0,
        model: str = "test",
        retry_after_s: float = 0.02,
        drip_s: float = 0.1,
        hang_s: float = 3600.0,
    ) -> None:
        self.skill, self.latency_s, self.seed, self.model = skill, latency_s, seed, model
        self.rates = rates(faults)
        self.retry_after_s, self.drip_s, self.hang_s = retry_after_s, drip_s, hang_s
        self.calls: list[Call] = []
        self.most_at_once = self._now = 0
        self._came: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http: _Http | None = None

    def __enter__(self) -> Server:
        self._closing.clear()
        self._http = _Http(self)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()

    @property
    def url(self) -> str:
        """The base URL. Raises InputError outside of `with`."""
        if self._http is None:
            raise InputError("the server was not started", next_step="use it in a `with` block")
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def counts(self) -> Counter[str]:
        """How often each fault was injected."""
        return Counter(call.fault for call in list(self.calls) if call.fault is not None)

    @property
    def answered(self) -> int:
        """How many completions were sent whole."""
        return sum(call.is_answered for call in list(self.calls))

    def answer(self, request: Mapping[str, Any]) -> Draft:
        """The answer to a request, which is counted and kept."""
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        with self._lock:
            occurrence = self._came[digest]
            self._came[digest] += 1
        fault, draft = self.draft(request, digest, occurrence)
        with self._lock:
            self.calls.append(
                Call(request, digest, occurrence, fault.name if fault else None, draft.status, tuple(draft.texts))
            )
        return draft

    def draft(self, request: Mapping[str, Any], digest: str, occurrence: int) -> tuple[Fault | None, Draft]:
        """What the request gets at its occurrence, and the fault in it."""
        place = f"{self.seed}/{digest}" if request.get("seed") is not None else f"{self.seed}/{digest}/{occurrence}"
        texts = [
            self.skill(request["messages"], {**request, "seed": _number(f"{place}/choice {index}")})
            for index in range(request.get("n") or 1)
        ]
        same = {**request, "seed": _number(f"{self.seed}/duplicate")}
        draft = Draft.of(request, texts, lambda: self.skill(request["messages"], same))
        fault = self._fault(place, f"{self.seed}/{digest}/{occurrence}")
        if fault is not None:
            fault.change(draft, random.Random(f"{place}/fault"))
        if draft.status in (429, 500, 503):
            draft.headers["Retry-After"] = f"{self.retry_after_s:g}"
        return fault, draft

    def _fault(self, place: str, attempt: str) -> Fault | None:
        """Of the connection with its share of all tries, else of the answer with its share of all requests."""
        parts = {
            kind: {name: rate for name, rate in self.rates.items() if FAULTS[name].is_connection == kind}
            for kind in (True, False)
        }
        spoilt = sum(parts[True].values())
        name = _drawn(parts[True], random.Random(f"{attempt}/connection").random())
        if name is None and spoilt < 1:
            name = _drawn(parts[False], random.Random(f"{place}/answer").random() * (1 - spoilt))
        return None if name is None else FAULTS[name]

    def enter(self, change: int) -> None:
        """Count a request that begins (1) or ends (-1)."""
        with self._lock:
            self._now += change
            self.most_at_once = max(self.most_at_once, self._now)

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the server's end."""
        if seconds > 0:
            self._closing.wait(seconds)


def rates(faults: float | Mapping[str, float]) -> dict[str, float]:
    """The share of each fault. Raises InputError for unknown names and for shares that are none."""
    if not isinstance(faults, Mapping):
        faults = {name: faults / len(FAULTS) for name in FAULTS}
    for name, rate in faults.items():
        if name not in FAULTS:
            raise UnknownName("fault", name, FAULTS)
        if not 0 <= rate <= 1:
            raise InputError(f"the share of the fault '{name}' is {rate}", allowed="0 to 1")
    if sum(faults.values()) > 1 + 1e-9:
        raise InputError(f"the shares of the faults add up to {sum(faults.values()):g}", allowed="at most 1")
    return dict(faults)


def _drawn(shares: Mapping[str, float], draw: float) -> str | None:
    for name, share in shares.items():
        draw -= share
        if draw < 0:
            return name
    return None


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


_RESET = struct.pack("ii", 1, 0)
"""A linger of 0 seconds: closing sends RST instead of FIN."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, owner: Server) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def shutdown_request(self, request: Any) -> None:
        """Close; a connection that is to be reset without the polite end."""
        lingers = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        if lingers == _RESET:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; the second must not wait for an acknowledgement
    server: _Http

    def do_GET(self) -> None:
        if self.path.rstrip("/") != "/v1/models":
            return self._send_json(404, {"error": {"message": f"no such address: {self.path}"}})
        entry = {"id": self.server.owner.model, "object": "model", "created": 0, "owned_by": "engine.testing"}
        return self._send_json(200, {"object": "list", "data": [entry]})

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.rstrip("/") != "/v1/chat/completions":
            return self._send_json(404, {"error": {"message": f"no such address: {self.path}"}})
        request, complaint = _read_request(body)
        if complaint:
            return self._send_json(400, {"error": {"message": complaint, "type": "invalid_request_error"}})
        owner.enter(1)
        try:
            draft = owner.answer(request)
            owner.sleep(owner.latency_s)
            with contextlib.suppress(OSError):  # the client went away
                self._deliver(draft)
        finally:
            owner.enter(-1)

    def log_message(self, *_: object) -> None:
        pass

    def _deliver(self, draft: Draft) -> None:
        owner, payload = self.server.owner, draft.payload()
        if draft.delivery == "hang":
            owner.sleep(owner.hang_s)
        if draft.delivery in ("reset", "hang"):
            return self._reset()
        self._head(draft.status, draft.content_type, len(payload), draft.headers)
        if draft.delivery == "cut":
            self.wfile.write(payload[: len(payload) // 2])
            self.close_connection = True
        elif draft.delivery == "drip":
            size = -(-len(payload) // 8)
            for start in range(0, len(payload), size):
                self.wfile.write(payload[start : start + size])
                owner.sleep(owner.drip_s / 8)
        else:
            self.wfile.write(payload)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close_connection = True

    def _send_json(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self._head(status, "application/json", len(data), {})
        self.wfile.write(data)

    def _head(self, status: int, content_type: str, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _read_request(body: bytes) -> tuple[dict[str, Any], str]:
    """The request, and what is wrong with it."""
    try:
        request = json.loads(body)
    except ValueError as error:
        return {}, f"the body is not JSON: {error}"
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list) or not request["messages"]:
        return {}, "'messages' is missing, empty or no list"
    if request.get("stream"):
        return {}, "'stream' is not supported here"
    count = request.get("n") or 1
    return request, "" if isinstance(count, int) and 1 <= count <= 128 else f"'n' is {count!r}, allowed: 1 to 128"
