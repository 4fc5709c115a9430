"""What a candidate is and how it is shown: text, code, a picture, a sound."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import InputError
from engine.jsonfiles import json_text
from engine.media import Media

MAX_CHARACTERS = 100_000


@dataclass(frozen=True)
class Text:
    """Text that is shown as it is. A plain str is shown as Markdown."""

    text: str


@dataclass(frozen=True)
class Code:
    """Source code, shown in a fixed width; `language` is its label."""

    text: str
    language: str = ""


Kind = Literal["markdown", "text", "code", "image", "audio"]


def as_shown(value: Any) -> dict[str, Any]:
    """What is stored of a candidate: {"kind", "text"} and what goes with its kind, as JSON.

    Raises InputError for a text of more than 100,000 characters, and for what JSON cannot hold.
    """
    if isinstance(value, Media):
        kind = value.mime.partition("/")[0]
        return {"kind": kind, "text": value.alt, "mime": value.mime, "sha256": value.sha256}
    if isinstance(value, Code):
        shown = {"kind": "code", "text": value.text, "language": value.language}
    elif isinstance(value, Text):
        shown = {"kind": "text", "text": value.text}
    elif isinstance(value, str):
        shown = {"kind": "markdown", "text": value}
    else:
        shown = {"kind": "code", "text": json_text(value, indent=2), "language": "json"}
    if len(shown["text"]) > MAX_CHARACTERS:
        raise InputError(f"a candidate of {len(shown['text'])} characters", allowed=f"at most {MAX_CHARACTERS}")
    return shown


def digest(data: Any) -> str:
    """24 hex digits of the SHA-256 of the data as JSON: the same content has the same name everywhere."""
    return hashlib.sha256(json_text(data).encode()).hexdigest()[:24]
