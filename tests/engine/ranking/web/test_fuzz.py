"""Ten thousand requests that make no sense, or nearly do: none is a fault of the server, and it serves on."""

import http.client
import random
import socket
from collections import Counter
from contextlib import suppress
from urllib.parse import quote, urlencode

import pytest

from engine.ranking.web.guard import COOKIE, MAX_BODY
from tests.engine.ranking.web.visitor import Visitor

COUNT = 10_000
SEED = 7
PATHS = (
    "/",
    "/answer",
    "/draft",
    "/undo",
    "/compare",
    "/blob/",
    "/static/",
    "/join/",
    "/health",
    "/favicon.ico",
    "//",
    "/%",
)
NAMES = (
    "csrf",
    "item",
    "form_id",
    "action",
    "note",
    "reason",
    "all_bad",
    "place_A",
    "place_B",
    "place_C",
    "place_Z",
    "",
)
WORDS = [
    "",
    "1",
    "2",
    "9",
    "0",
    "-1",
    "1e9",
    "on",
    "submit",
    "skip",
    "undo",
    "A",
    "B",
    "null",
    "[]",
    "{}",
    "../..",
    "%00",
]
WORDS += ["\x00", "\u202e", "é", "\U0001f600", "'; DROP TABLE answers; --", "<script>", "a" * 300, "\ud83d", "\r\n"]
TYPES = (
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
)
TYPES += ("application/json", "multipart/form-data; boundary=", "application/x-www-form-urlencoded; charset=utf-7")
HEADERS = ("Accept", "Range", "If-None-Match", "Accept-Encoding", "X-Forwarded-For", "Content-Encoding", "Expect")


class Fuzz:
    """Draws requests from a seed; `known` is what a form of each session holds, so that some nearly fit."""

    def __init__(self, seed, port, secrets, known):
        self.random, self.port, self.secrets, self.known = random.Random(seed), port, secrets, known

    def word(self):
        kind = self.random.random()
        if kind < 0.6:
            return self.random.choice(WORDS)
        if kind < 0.9:
            return self.random.choice(self.known)
        return "".join(chr(self.random.randrange(1, 0x2FF)) for _ in range(self.random.randrange(20)))

    def fields(self, form):
        """Nearly a form, with some fields left out, doubled or wrong."""
        fields = [*form.items(), ("place_A", "1"), ("place_B", "2"), ("action", "submit")]
        fields = [(name, value if self.random.random() < 0.8 else self.word()) for name, value in fields]
        fields += [(self.random.choice(NAMES), self.word()) for _ in range(self.random.randrange(4))]
        return [one for one in fields if self.random.random() < 0.95]

    def body(self, form):
        text = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in self.fields(form)])
        kind = self.random.random()
        if kind < 0.7:
            return TYPES[0], text.encode()
        if kind < 0.8:
            return self.random.choice(TYPES), self.random.randbytes(self.random.randrange(200))
        if kind < 0.95:
            parts = b"".join(
                b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"'
                + self.random.choice([b"", b'; filename="a"', b"; filename*=utf-8''%ff", b'; name="b"']) + b"\r\n\r\n"
                + value.encode("utf-8", "surrogatepass") + b"\r\n"
                for name, value in self.fields(form)
            )  # fmt: skip
            return "multipart/form-data; boundary=x", parts + self.random.choice([b"--x--\r\n", b"--x", b""])
        return self.random.choice(TYPES), b"x=" * self.random.randrange(40_000)

    def request(self):
        """(method, path, body, headers) of one request."""
        secret, form = self.random.choice(self.secrets)
        path = self.random.choice(PATHS)
        if self.random.random() < 0.3:
            path += quote(self.word().encode("utf-8", "surrogatepass"), safe=self.random.choice(["", "/%?&=."]))
        if self.random.random() < 0.4:
            path += "?" + urlencode([(self.random.choice(["item", "left", "right", "said", "v"]),
                                      self.word().encode("utf-8", "surrogatepass")) for _ in range(3)])  # fmt: skip
        method = self.random.choices(["GET", "POST", "HEAD", "PUT", "OPTIONS", "get"], [6, 10, 1, 1, 1, 1])[0]
        headers = {"Cookie": f"{COOKIE}={secret}"} if self.random.random() < 0.9 else {"Cookie": self.garbage()}
        body = None
        if method in ("POST", "PUT"):
            headers["Origin"] = f"http://127.0.0.1:{self.port}"
            headers["Content-Type"], body = self.body(form)
        if self.random.random() < 0.1:
            headers[self.random.choice([*HEADERS, "Host", "Origin"])] = self.garbage()
        return method, path.replace(" ", "%20"), body, headers

    def bytes(self):
        """A request of which some bytes are others, or are missing."""
        method, path, body, headers = self.request()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {headers[name]}" for name in headers)]
        lines += [] if body is None else [f"Content-Length: {len(body)}"]
        data = bytearray("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (body or b""))
        for _ in range(self.random.randrange(1, 5)):
            at = self.random.randrange(min(len(data), 300))
            self.random.choice([data.pop, lambda at: data.insert(at, self.random.randrange(256)),
                                lambda at: data.__setitem__(at, self.random.randrange(256))])(at)  # fmt: skip
        return bytes(data[: self.random.choice([None, None, self.random.randrange(len(data))])])

    def garbage(self):
        return "".join(chr(self.random.randrange(33, 256)) for _ in range(self.random.randrange(1, 40)))


@pytest.mark.parametrize("count", [COUNT])
def test_no_request_is_a_fault_of_the_server(own_site, count):
    site = own_site(rate=100_000)
    for number in range(200):
        site.ask(f"a {number}", f"b {number}", "c", votes=9)
    visitors = [Visitor(site.port, site.session(f"one {number}")) for number in range(4)]
    forms = [(visitor.secret, visitor.form()) for visitor in visitors]
    known = [value for _, form in forms for value in form.values()] + ["form.js", "form.css", "0" * 64]
    fuzz = Fuzz(SEED, site.port, forms, known)
    lines = [Line(site.port) for _ in range(8)]
    statuses = Counter(fuzz.random.choice(lines).status(*fuzz.request()) for _ in range(count))
    statuses.update(status_of_bytes(site.port, fuzz.bytes()) for _ in range(count // 20))
    for line in lines:
        line.connection.close()
    faults = {code: n for code, n in statuses.items() if code >= 500 or code < 200}
    assert not faults, statuses
    assert {200, 303, 403, 404, 405, 413, 421, 422} <= statuses.keys()  # it came to all of them
    assert site.process.poll() is None
    for visitor in visitors:
        fields = visitor.form() | {"place_A": "1", "place_B": "2", "place_C": "2", "action": "submit"}
        assert visitor.ask("/answer", fields).headers["location"] == "/"
    for vote in site.store.votes():
        assert set(vote.ranking.ids) == set(vote.candidates)


class Line:
    """A connection that is kept, and made anew where the server hung up."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def status(self, method, path, body, headers):
        """The status of one request; 400 where it could not even be sent, 413 where the server hung up on a long one,
        0 where it hung up twice on a short one."""
        for _ in range(2):
            try:
                self.connection.request(method, path, body, headers)
            except (ValueError, http.client.InvalidURL):
                self.connection.close()
                return 400
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server had seen enough
            try:
                with self.connection.getresponse() as found:
                    found.read()
                    return found.status
            except (OSError, http.client.HTTPException):
                self.connection.close()
        return 413 if body and len(body) > MAX_BODY else 0


def status_of_bytes(port, data):
    """The status of the first answer to the bytes; 400 where the server hung up on them without one."""
    said = b""
    with (
        suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
    ):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65_536):
            said += part
            if said[9:12].isdigit():
                break
    return int(said[9:12]) if said else 400
