"""Untrusted text as safe HTML, and the words in which two texts differ."""

from __future__ import annotations

import difflib
import html
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
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
# A model's headings look like headings, and are none: those of the page tell which candidate begins where.
_MARKDOWN.add_render_rule("heading_open", lambda _, tokens, at, *__: f'<p class="heading {tokens[at].tag}">')
_MARKDOWN.add_render_rule("heading_close", lambda *_: "</p>\n")
# Nothing that a model wrote stands in an attribute, where a mark's tags would end it: a fence's language is not shown.
_MARKDOWN.add_render_rule("fence", lambda _, tokens, at, *__: _block(tokens[at].content))
# The policy of the page refuses styles in attributes, by which the columns of a table would be aligned.
for _cell in ("th", "td"):
    _MARKDOWN.add_render_rule(f"{_cell}_open", lambda _, tokens, at, *__: f"<{tokens[at].tag}>")
# Marks that turn the direction of what follows, or are not seen: U+200C and U+200D join letters and emoji, and stay.
_HIDDEN = re.compile(
    "[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters that stand for the tags of a mark until the text is escaped
_PRIVATE = re.compile(f"[{_OPEN}{_CLOSE}]")
MOST_PAIRS = 3_000_000
MOST_STEPS = 10_000_000
_WORDS = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")  # blanks go with what follows: alone they would make most of the pairs

Part = tuple[Literal["=", "-", "+"], str]


def as_html(shown: dict[str, Any]) -> Markup:
    """A candidate's text as HTML of ours, whatever it holds."""
    text = _marked(shown["text"])
    if shown["kind"] == "markdown":
        return _tagged(_MARKDOWN.render(text))
    if shown["kind"] == "code":
        label = html.escape(_marked(str(shown.get("language", ""))))
        name = f'<span class="language">{label}</span>' if label else ""
        return _tagged(name + _block(text))
    return _tagged(f'<div class="verbatim">{html.escape(text)}</div>')


def prompt_html(prompt: str) -> Markup:
    """The prompt, as Markdown."""
    return as_html({"kind": "markdown", "text": prompt})


def plain(text: str) -> str:
    """The text with hidden characters spelled out, for where there are no tags."""
    return re.sub(_PRIVATE, "", _marked(text))


def word_diff(left: str, right: str) -> list[Part]:
    """The parts of which both texts consist, in order: "=" in both, "-" in the left alone, "+" in the right alone.

    Long texts are compared by their lines, and those that repeat themselves for long only by where they part: a search
    takes as many steps as there are pairs of equal parts, and while it runs nobody else is served.
    """
    texts = plain(left), plain(right)
    a, b = (_WORDS.findall(text) for text in texts)
    if _pairs(a, b) > MOST_PAIRS:
        a, b = (text.splitlines(keepends=True) for text in texts)
    parts: list[Part] = []
    for kind, a0, a1, b0, b1 in _opcodes(a, b):
        old, new = "".join(a[a0:a1]), "".join(b[b0:b1])
        same = old if kind == "equal" else _blanks(old, new)
        parts.append(("=", same))
        if kind != "equal":
            parts += [("-", old[len(same) :]), ("+", new[len(same) :])]
    return _joined([(op, text) for op, text in parts if text])


def _blanks(old: str, new: str) -> str:
    """The blanks with which both begin."""
    both = old[: _common(old, new)]
    return both[: len(both) - len(both.lstrip())]


def _joined(parts: list[Part]) -> list[Part]:
    """The same with no two parts of a kind in a row."""
    rows = itertools.groupby(parts, key=lambda part: part[0])
    return [(op, "".join(text for _, text in row)) for op, row in rows]


class _Matcher(difflib.SequenceMatcher[str]):
    """Finds nothing more after MOST_STEPS: of texts that repeat themselves each match leaves as much to search."""

    def __init__(self, a: list[str], b: list[str]) -> None:
        super().__init__(None, a, b, autojunk=False)
        times = Counter(b)
        self.costs, self.steps = [times[part] for part in a], 0

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        self.steps += sum(self.costs[alo:ahi])
        if self.steps > MOST_STEPS:
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """With how many equal parts both begin."""
    return next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _pairs(a: list[str], b: list[str]) -> int:
    """How many pairs of equal parts there are."""
    count = Counter(b)
    return sum(times * count[part] for part, times in Counter(a).items())


def _opcodes(a: list[str], b: list[str]) -> Sequence[tuple[str, int, int, int, int]]:
    """What turns a into b, as difflib says it; where that would take too long, that their middles differ."""
    if _pairs(a, b) <= MOST_PAIRS:
        return _Matcher(a, b).get_opcodes()
    head = _common(a, b)
    tail = _common(a[head:][::-1], b[head:][::-1])
    end_a, end_b = len(a) - tail, len(b) - tail
    return [
        ("equal", 0, head, 0, head),
        ("replace", head, end_a, head, end_b),
        ("equal", end_a, len(a), end_b, len(b)),
    ]


def _block(code: str) -> str:
    return f"<pre><code>{html.escape(code)}</code></pre>"


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
