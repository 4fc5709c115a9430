"""A visitor without a browser, who sends what no browser would."""

from __future__ import annotations

import http.client
import re
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from engine.ranking.web.guard import COOKIE


@dataclass
class Answer:
    status: int
    text: str
    headers: dict[str, str]


class Visitor:
    """Sends requests to 127.0.0.1, each on a connection of its own, as `secret`'s session where one is given."""

    def __init__(self, port: int, secret: str = "") -> None:
        self.port, self.secret = port, secret

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, *, method: str = "", **headers: str | None) -> Answer:
        """One request; a mapping as the body is a form, with the Origin that a browser would send. headers: with _ for
        -, None leaves one out."""
        sent: dict[str, str | None] = {"Cookie": f"{COOKIE}={self.secret}" if self.secret else None}
        if body is not None:
            sent |= {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = urlencode(body) if isinstance(body, dict) else body
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            kept = {name: value for name, value in sent.items() if value is not None}
            connection.request(method or ("GET" if body is None else "POST"), path, data, kept)
            with connection.getresponse() as found:
                text = found.read().decode("utf-8", "replace")
                return Answer(found.status, text, {name.lower(): value for name, value in found.getheaders()})

    def form(self) -> dict[str, str]:
        """The hidden fields of the page that lies before the visitor."""
        return dict(re.findall(r'name="(csrf|item|form_id)" value="([\w-]+)"', self.ask("/").text))
