"""HTML and SVG by construction: every string is escaped unless it is markup already."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


# control characters are not allowed in HTML; their Unicode pictures (U+2400...) can be seen
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: "\u2421"}
_VOID = frozenset({"br", "hr", "meta", "img", "circle", "line", "path", "rect"})


def escape(text: object) -> Html:
    """The text as markup; markup stays as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(visible(str(text)), quote=True))


def visible(text: str) -> str:
    """The text with control characters replaced by their pictures."""
    return text.translate(_PICTURES)


def join(parts: Iterable[object]) -> Html:
    """The parts one after the other, strings escaped."""
    return Html("".join(escape(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Attribute names: `class_` is class, `stroke_width` is stroke-width; None leaves one out."""
    pairs = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    opening = f"<{name}{''.join(pairs)}"
    return Html(f"{opening}/>" if name in _VOID else f"{opening}>{join(children)}</{name}>")


def section(title: str, *children: object, anchor: str = "") -> Html:
    """A titled part of the page; Html("") when it would be empty."""
    body = join(children)
    return tag("section", tag("h2", title), body, id=anchor or title.lower().replace(" ", "-")) if body else Html("")


def table(head: Iterable[object], rows: Iterable[Iterable[object]], *, numeric: Iterable[int] = ()) -> Html:
    """A table that scrolls by itself where the page is narrow; `numeric`: right-aligned columns."""
    right = set(numeric)

    def cells(name: str, values: Iterable[object]) -> Html:
        return join(tag(name, value, class_="n" if i in right else None) for i, value in enumerate(values))

    body = join(tag("tr", cells("td", row)) for row in rows)
    return tag("div", tag("table", tag("thead", tag("tr", cells("th", head))), tag("tbody", body)), class_="scroll")


def details(summary: object, *children: object, is_open: bool = False) -> Html:
    """A part that opens on a click, without a script."""
    return tag("details", tag("summary", summary), *children, open="" if is_open else None)


def tile(label: str, value: object, note: object = "", *, mood: str = "") -> Html:
    """One number with its name; mood "good" or "bad" colours it."""
    return tag(
        "div",
        tag("div", label, class_="label"),
        tag("div", value, class_=f"value {mood}".strip()),
        tag("div", note, class_="note"),
        class_="tile",
    )


def pre(text: object) -> Html:
    return tag("pre", text)


def number(value: object, digits: int = 4) -> str:
    """A number as a person reads it, with few digits; other values as text, None as a dash."""
    if value is None:
        return "\u2013"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}".replace(",", "\u202f")
    text = f"{value:.{digits}g}"
    return text if "e" in text else text.replace("-", "\u2212")


def clip(text: str, length: int = 6000) -> str:
    """The text, cut with a note of how much is left out."""
    return text if len(text) <= length else f"{text[:length]}\u2026 ({len(text) - length} more characters)"


def as_text(value: Any) -> str:
    """A parameter's value as text to read and to compare."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
