"""Untrusted text as safe HTML, and the words in which two texts differ."""

from __future__ import annotations

import difflib
import html
import re
import unicodedata
from typing import Any, Literal

from markdown_it import MarkdownIt
from markupsafe import Markup

# No raw HTML, no links, no pictures: what a model wrote leads nowhere and loads nothing. What these would have been
# is shown as the characters it is.
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False, "typographer": False})
    .enable("table")
    .disable(["html_block", "html_inline", "link", "image", "autolink", "reference", "entity"])
)
# Marks that turn the direction of what follows, or are not seen: U+200C and U+200D join letters and emoji, and stay.
_HIDDEN = re.compile(
    "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters that stand for the tags of a mark until the text is escaped
_PRIVATE = re.compile(f"[{_OPEN}{_CLOSE}]")
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")

Part = tuple[Literal["=", "-", "+"], str]


def as_html(shown: dict[str, Any]) -> Markup:
    """A candidate's text as HTML of ours, whatever it holds."""
    text = _marked(shown["text"])
    if shown["kind"] == "markdown":
        return _tagged(_MARKDOWN.render(text))
    escaped = html.escape(text)
    if shown["kind"] == "code":
        label = html.escape(_marked(str(shown.get("language", ""))))
        name = f'<span class="language">{label}</span>' if label else ""
        return _tagged(f"{name}<pre><code>{escaped}</code></pre>")
    return _tagged(f'<div class="verbatim">{escaped}</div>')


def prompt_html(prompt: str) -> Markup:
    """The prompt, as Markdown."""
    return as_html({"kind": "markdown", "text": prompt})


def plain(text: str) -> str:
    """The text with hidden characters spelled out, for where there are no tags."""
    return re.sub(_PRIVATE, "", _marked(text))


def word_diff(left: str, right: str) -> list[Part]:
    """The parts of which both texts consist, in order: "=" in both, "-" in the left alone, "+" in the right alone."""
    a, b = _WORDS.findall(plain(left)), _WORDS.findall(plain(right))
    parts: list[Part] = []
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(("=", "".join(a[a0:a1])))
            continue
        if a1 > a0:
            parts.append(("-", "".join(a[a0:a1])))
        if b1 > b0:
            parts.append(("+", "".join(b[b0:b1])))
    return parts


def _marked(text: str) -> str:
    """The text with hidden characters spelled out between private characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _PRIVATE.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))  # no lone surrogates
    return _HIDDEN.sub(lambda found: f"{_OPEN}{_name(found[0])}{_CLOSE}", text)


def _name(character: str) -> str:
    short = unicodedata.name(character, "control character").lower()
    return f"U+{ord(character):04X} {short}"


def _tagged(escaped: str) -> Markup:
    return Markup(escaped.replace(_OPEN, '<span class="control">').replace(_CLOSE, "</span>"))
