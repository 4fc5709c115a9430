"""What every request passes first: its host, its origin, its size, how many there are; and headers of every answer."""

from __future__ import annotations

from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.ranking.web.limits import Buckets

COOKIE = "rank_session"
MAX_BODY = 64 << 10
MAX_URL, MAX_HEAD = 8 << 10, 32 << 10
_TOO_LONG = f"The body is longer than {MAX_BODY} bytes."
SAFE = frozenset({"GET", "HEAD"})
METHODS = SAFE | {"POST"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """hosts: the names under which the server may be asked for, without a port: another is a page of somebody else
    whose name was made to lead here. A request that changes something must come from a page of that very host.

    rate, burst: of requests of one session, or of all without one from the same address. sessions: the secrets that
    the application found to be sessions; one that is made up counts for its address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        sessions: Collection[str],
        rate: float = 100.0,
        burst: float = 200.0,
    ) -> None:
        self.sessions = sessions
        self.app, self.hosts = app, frozenset(host.lower() for host in hosts)
        self.buckets = Buckets(rate, burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, headed)
            return
        await self.app(scope, _limited(receive), headed)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["method"] not in METHODS:
            return _answer(405, "This is not done here.")
        if len(scope["path"]) + len(scope["query_string"]) > MAX_URL:
            return _answer(414, f"The address is longer than {MAX_URL} characters.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD:
            return _answer(431, f"The headers are longer than {MAX_HEAD} bytes.")
        if _name(host) not in self.hosts:
            return _answer(421, "This server does not answer to that name.")
        if scope["method"] not in SAFE and not _is_own(headers, host):
            return _answer(403, "The request does not come from a page of this server.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return _answer(400, "The length of the body is no number.")
        if int(length[:20]) > MAX_BODY:
            return _answer(413, _TOO_LONG, {"Connection": "close"})
        if wait := self.buckets.take(self._visitor(scope, headers)):
            return _answer(429, "Too many requests. Wait a moment.", {"Retry-After": str(int(wait) + 1)})
        return None

    def _visitor(self, scope: Scope, headers: Headers) -> str:
        secret = cookie(headers)
        return secret if secret in self.sessions else str((scope.get("client") or ("", 0))[0])


def cookie(headers: Headers) -> str:
    """The secret of the session, or an empty string."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _limited(receive: Receive) -> Receive:
    """Stops at a body that is longer than it said, or did not say."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY:
            raise HTTPException(413, _TOO_LONG)
        return message

    return limited


def _name(host: str) -> str:
    """The host without its port; of an IPv6 address what is in the brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own(headers: Headers, host: str) -> bool:
    """Whether the browser says that a page of this host sent it; every browser of today says so for a POST."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, headers)
