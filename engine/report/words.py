"""What changed between two texts, word by word."""

from __future__ import annotations

import difflib
import re
from typing import Any

from engine.report.html import Html, as_text, clip, join, tag

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
# comparing is quadratic at worst: longer texts are compared by lines
_MOST_TOKENS = 3000


def value_diff(before: Any, after: Any) -> Html:
    """Texts word by word; other values as a whole, because half a number says nothing."""
    if isinstance(before, str) and isinstance(after, str):
        return word_diff(clip(before), clip(after))
    old, new = clip(as_text(before)), clip(as_text(after))
    parts = [new] if old == new else [tag("del", old), " ", tag("ins", new)]
    return tag("div", *parts, class_="text")


def word_diff(before: str, after: str) -> Html:
    """The texts as one, with <del> around what went and <ins> around what came."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    if len(old) + len(new) > _MOST_TOKENS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    parts: list[str] = []
    for action, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if action == "equal":
            parts.append("".join(old[i1:i2]))
            continue
        if i1 < i2:
            parts.append(tag("del", "".join(old[i1:i2])))
        if j1 < j2:
            parts.append(tag("ins", "".join(new[j1:j2])))
    return tag("div", join(parts), class_="text")


def code_diff(before: Any, after: Any) -> Html:
    """Two versions of a function, whole, line by line."""
    old, new = (clip(as_text(value)).rstrip("\n").split("\n") for value in (before, after))
    lines = list(difflib.unified_diff(old, new, lineterm="", n=max(len(old), len(new))))
    return patch("\n".join(lines[3:]) or as_text(after))


def patch(text: str) -> Html:
    """A unified diff with its lines coloured."""
    moods = {"+": "ins", "-": "del", "@": "hunk"}
    return tag(
        "pre",
        join(
            tag("span", line + "\n", class_=moods.get(line[:1]) if line[:3] not in ("+++", "---") else "hunk")
            for line in text.strip("\n").split("\n")
        ),
        class_="patch",
    )
