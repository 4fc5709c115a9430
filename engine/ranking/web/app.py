"""The form's routes."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine.errors import InputError, UnknownName
from engine.ranking.desk import Assigned, Desk
from engine.ranking.members import SESSION_S, Annotator, Members
from engine.ranking.store import RankingStore
from engine.ranking.web.entries import Entries, ranking_of, read, skipped
from engine.ranking.web.guard import COOKIE, Guard, cookie
from engine.ranking.web.pages import STATIC, csrf_of, door, home, page, static
from engine.ranking.web.show import word_diff

POLL_S = 0.5
BEAT_S = 15.0
MOST_STREAMS = 4
MOST_SESSIONS = 10_000
MAX_AGE = "private, max-age=31536000, immutable"
_RANGE = re.compile(r"bytes=(\d{1,9})-(\d{0,9})")
_ITEM = re.compile(r"[0-9a-f]{24}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_SIGNED_IN = "Open the link that you were given: it signs you in."


class _Stream(StreamingResponse):
    """Events as they come. ended: called once afterwards, also where the page went before the first."""

    def __init__(self, events: AsyncIterator[str], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


class Form:
    """The pages over one store. stopping: set when the server is to end, so that streams do."""

    def __init__(self, store: RankingStore, *, lease_s: float, is_secure: bool) -> None:
        self.store, self.is_secure = store, is_secure
        self.desk, self.members = Desk(store, lease_s=lease_s), Members(store)
        self.stopping = asyncio.Event()
        self.sessions: OrderedDict[str, None] = OrderedDict()  # the last secrets that were found to be sessions
        self.streams: Counter[int] = Counter()
        self.last_request = time.monotonic()

    def routes(self) -> list[Route]:
        return [
            Route("/", self.home, methods=["GET"]),
            Route("/join/{token}", self.join, methods=["GET"]),
            Route("/answer", self.answer, methods=["POST"]),
            Route("/draft", self.draft, methods=["POST"]),
            Route("/undo", self.undo, methods=["POST"]),
            Route("/compare", self.compare, methods=["GET"]),
            Route("/events", self.events, methods=["GET"]),
            Route("/blob/{sha256}", self.blob, methods=["GET"]),
            Route("/static/{name:path}", self.static, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]

    def who(self, request: Request) -> tuple[Annotator, str]:
        """Whose session the request has, and its secret. Raises HTTPException 401."""
        self.last_request = time.monotonic()
        secret = cookie(request.headers)
        annotator = self.members.signed_in(secret) if secret else None
        if annotator is None:
            self.sessions.pop(secret, None)
            raise HTTPException(401, _NOT_SIGNED_IN)
        self.sessions[secret] = None
        if len(self.sessions) > MOST_SESSIONS:
            self.sessions.popitem(last=False)
        return annotator, secret

    def home(self, request: Request) -> Response:
        annotator, secret = self.who(request)
        notice = request.query_params.get("said", "")
        return home(self.desk, annotator, secret, self.desk.next(annotator), notice=notice)

    def join(self, request: Request) -> Response:
        """Signs in, and leads on by a page: after a redirect from elsewhere the browser would not send the cookie."""
        if request.method == "HEAD":
            return Response()
        found = self.members.sign_in(request.path_params["token"])
        if found is None:
            return door("This link is not valid, or no longer. Ask for a new one.")
        annotator, secret = found
        answer = page("join.html", {"name": annotator.name})
        answer.set_cookie(
            COOKIE, secret, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=self.is_secure
        )
        return answer

    async def answer(self, request: Request) -> Response:
        return await self._posted(request, self._answer)

    async def draft(self, request: Request) -> Response:
        return await self._posted(request, self._draft)

    async def undo(self, request: Request) -> Response:
        return await self._posted(request, self._undo)

    def compare(self, request: Request) -> Response:
        annotator, _ = self.who(request)
        asked = request.query_params
        assigned = self._assigned(annotator, asked)
        letters = [asked.get(side, "") for side in ("left", "right")]
        if unknown := [letter for letter in letters if letter not in assigned.candidates]:
            raise InputError(f"no candidate {unknown[0]!r:.20}", allowed=", ".join(assigned.candidates))
        parts = word_diff(*(assigned.candidates[letter][1]["text"] for letter in letters))
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"parts": parts})
        context = {"left": letters[0], "right": letters[1], "parts": parts, "item": assigned.question}
        return page("compare.html", context)

    def blob(self, request: Request) -> Response:
        self.who(request)
        sha256 = request.path_params["sha256"]
        found = self.store.blob(sha256) if _SHA256.fullmatch(sha256) else None
        if found is None:
            raise HTTPException(404, "There is no such picture or sound.")
        return _ranged(*found, request.headers.get("range", ""))

    def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404, "There is no such file.")
        data, version = static(name)
        headers = {"Cache-Control": MAX_AGE} if request.query_params.get("v") == version else None
        return Response(data, headers=headers, media_type=STATIC[name])

    def health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def events(self, request: Request) -> Response:
        annotator, secret = await run_in_threadpool(self.who, request)
        if self.streams[annotator.id] >= MOST_STREAMS:
            raise HTTPException(429, "Too many open pages.", {"Retry-After": "3"})
        self.streams[annotator.id] += 1  # without a pause after the question, as all pages may come at once

        def ended() -> None:
            self.streams[annotator.id] -= 1

        return _Stream(self._states(annotator, secret), ended)

    async def _states(self, annotator: Annotator, secret: str) -> AsyncIterator[str]:
        """What lies before the annotator, whenever it changes, while they are signed in; a comment now and then, so
        that nobody hangs up."""
        last, silent = "", 0.0
        while not self.stopping.is_set():
            found = await run_in_threadpool(self._state, annotator, secret)
            if found is None:
                return
            state = json.dumps(found)
            if state != last:
                yield f"event: state\ndata: {state}\n\n"
            elif silent >= BEAT_S:
                yield ": still here\n\n"
            silent = 0.0 if state != last or silent >= BEAT_S else silent + POLL_S
            last = state
            try:
                await asyncio.wait_for(self.stopping.wait(), POLL_S)
            except TimeoutError:
                continue

    def _state(self, annotator: Annotator, secret: str) -> dict[str, Any] | None:
        if self.members.signed_in(secret) is None:  # revoked since
            return None
        progress = self.desk.progress(annotator)
        return {"item": self.desk.peek(annotator), "answered": progress.answered, "waiting": progress.waiting}

    async def _posted(
        self, request: Request, then: Callable[[Annotator, str, Mapping[str, Any]], Response]
    ) -> Response:
        """Whose form it is, that it is ours, and then what it asks for."""
        annotator, secret = await run_in_threadpool(self.who, request)
        async with request.form(max_fields=40, max_files=0) as fields:
            given = fields.get("csrf", "")
            if not isinstance(given, str) or not hmac.compare_digest(given.encode(), csrf_of(secret).encode()):
                raise HTTPException(403, "The form is not of this session. Open the page again.")
            return await run_in_threadpool(then, annotator, secret, dict(fields))

    def _assigned(self, annotator: Annotator, fields: Mapping[str, Any]) -> Assigned:
        """The question that is meant. Raises UnknownName; of what is no id no database is asked: some take no NUL."""
        item = str(fields.get("item", ""))
        if not _ITEM.fullmatch(item):
            raise UnknownName("question", item[:40], [], next_step="go back to the form's first page")
        return self.desk.assigned(annotator, item)

    def _answer(self, annotator: Annotator, secret: str, fields: Mapping[str, Any]) -> Response:
        assigned = self._assigned(annotator, fields)
        entries: Entries | None = None
        try:
            entries = read(fields, assigned)
            is_skip = fields.get("action") == "skip"
            ranking = skipped(entries, assigned) if is_skip else ranking_of(entries, assigned)
        except InputError as error:
            draft = assigned.entries if entries is None else entries.draft()
            return home(self.desk, annotator, secret, assigned, error=str(error), entries=draft, status=422)
        try:
            receipt = self.desk.submit(annotator, assigned.question, entries.form, ranking)
        except UnknownName:  # taken back in another window, and somebody else has it now
            return _redirect("gone")
        return _redirect("" if receipt == "kept" else receipt)

    def _draft(self, annotator: Annotator, secret: str, fields: Mapping[str, Any]) -> Response:
        assigned = self._assigned(annotator, fields)
        is_kept = self.desk.save_draft(annotator, assigned.question, read(fields, assigned).draft())
        return Response(status_code=204 if is_kept else 409)

    def _undo(self, annotator: Annotator, secret: str, fields: Mapping[str, Any]) -> Response:
        return _redirect("" if self.desk.undo(annotator) else "used")


def _ranged(mime: str, data: bytes, asked: str) -> Response:
    """The bytes, or those of them that are asked for: Safari plays no sound that it cannot have in parts."""
    headers = {"Cache-Control": MAX_AGE, "Accept-Ranges": "bytes"}
    found = _RANGE.fullmatch(asked)
    if found is None:
        return Response(data, media_type=mime, headers=headers)
    first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
    if first > last:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers, mime)


def _redirect(notice: str) -> Response:
    return RedirectResponse(f"/?said={notice}" if notice else "/", status_code=303)


async def _refused(request: Request, error: Exception) -> Response:
    """An error as a page of one sentence."""
    status = error.status_code if isinstance(error, HTTPException) else 404 if isinstance(error, UnknownName) else 422
    message = error.detail if isinstance(error, HTTPException) else str(error)
    headers = getattr(error, "headers", None)
    answer = door(message, status)
    answer.headers.update(headers or {})
    return answer


def make_app(
    form: Form,
    *,
    hosts: Collection[str],
    rate: float = 100.0,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None,
) -> Guard:
    """The application. hosts: the names under which it answers; rate: requests a second of one session."""
    handlers = {HTTPException: _refused, InputError: _refused}
    app = Starlette(routes=form.routes(), exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect to where a client says is for nobody's good
    # Around all of it, not as a middleware, within which Starlette would not count its own answer to a fault.
    return Guard(app, hosts=hosts, sessions=form.sessions, rate=rate, burst=2 * rate)
