"""What the pages show: templates, static files, and a question as an annotator sees it."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.responses import HTMLResponse

from engine.ranking.desk import Assigned, Desk
from engine.ranking.members import Annotator
from engine.ranking.web.show import as_html, plain, prompt_html

STATIC = {
    "form.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "form.js": "text/javascript; charset=utf-8",
    "vendor/Sortable.min.js": "text/javascript; charset=utf-8",
}
NOTICES = {
    "late": "Your answer is kept. The question had all its answers already, so it counts in the statistics alone.",
    "again": "You had answered that question already; your first answer stands.",
    "used": "Your last answer has been used already, or nobody asks any more: it cannot be taken back.",
    "gone": "That question is no longer before you.",
}


@cache
def static(name: str) -> tuple[bytes, str]:
    """A static file and a name of its content. Raises KeyError for a name that is not in STATIC."""
    STATIC[name]
    data = files("engine.ranking.web").joinpath("static", *name.split("/")).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


def static_url(name: str) -> str:
    return f"/static/{name}?v={static(name)[1]}"


def _template(name: str) -> str:
    return files("engine.ranking.web").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["static"] = static_url
    return environment


def page(name: str, context: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """A template as an answer."""
    return HTMLResponse(_environment().get_template(name).render(context), status)


def door(message: str, status: int = 401) -> HTMLResponse:
    """The page of somebody who may not come in, or who looks for what is not there."""
    return page("door.html", {"message": message}, status)


def csrf_of(secret: str) -> str:
    """What a form of this session carries; nobody who does not have the session's secret can tell it."""
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


def home(
    desk: Desk, annotator: Annotator, secret: str, assigned: Assigned | None, *,
    notice: str = "", error: str | None = None, entries: Mapping[str, Any] | None = None, status: int = 200,
) -> HTMLResponse:  # fmt: skip
    """The question that lies before the annotator, or that there is none. entries: what they had entered."""
    progress = desk.progress(annotator)
    context: dict[str, Any] = {
        "annotator": annotator.name,
        "csrf": csrf_of(secret),
        "can_undo": desk.can_undo(annotator),
        "notice": NOTICES.get(notice),
        "error": error,
        "answered": progress.answered,
    }
    if assigned is None:
        return page("idle.html", context, status)
    left = progress.seconds_each
    context["progress"] = {
        "answered": progress.answered,
        "waiting": progress.waiting,
        "minutes_left": None if left is None else math.ceil(left * progress.waiting / 60),
    }
    context["item"] = _item(desk, assigned, assigned.entries if entries is None else entries)
    return page("item.html", context, status)


def _item(desk: Desk, assigned: Assigned, entries: Mapping[str, Any]) -> dict[str, Any]:
    left = None if assigned.deadline is None else assigned.deadline - desk.store.clock()
    return {
        "id": assigned.question,
        "form_id": secrets.token_urlsafe(16),
        "prompt_html": prompt_html(assigned.prompt),
        "mode": assigned.mode,
        "k": assigned.k,
        "deadline_minutes": None if left is None else max(0, math.ceil(left / 60)),
        "candidates": [
            _candidate(letter, shown, entries["places"].get(one))
            for letter, (one, shown) in assigned.candidates.items()
        ],
        "note": entries["note"],
        "all_bad": entries["all_bad"],
    }


def _candidate(letter: str, shown: Mapping[str, Any], place: int | None) -> dict[str, Any]:
    is_media = shown["kind"] in ("image", "audio")
    return {
        "letter": letter,
        "kind": shown["kind"],
        "html": None if is_media else as_html(dict(shown)),
        "src": f"/blob/{shown['sha256']}" if is_media else None,
        "alt": plain(shown["text"]) if is_media else None,
        "place": place,
    }
