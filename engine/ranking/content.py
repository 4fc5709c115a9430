"""What a candidate is and how it is shown: text, code, a picture, a sound."""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import DataError, InputError
from engine.jsonfiles import json_text

MAX_BYTES = 8 << 20
MAX_CHARACTERS = 100_000

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
TYPES = frozenset({mime for _, mime in _MAGIC} | set(_RIFF.values()))
"""The types of pictures and sounds that are shown. SVG is none of them: it can hold scripts."""


@dataclass(frozen=True)
class Text:
    """Text that is shown as it is. A plain str is shown as Markdown."""

    text: str


@dataclass(frozen=True)
class Code:
    """Source code, shown in a fixed width; `language` is its label."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Media:
    """A picture or a sound, by its bytes or its file; `alt` is read to who cannot see or hear it.

    The type is told by the first bytes: PNG, JPEG, GIF, WebP; MP3, Ogg, FLAC, WAV. Raises InputError for another
    type and beyond 8 MiB, and DataError for a file that cannot be read.
    """

    source: InitVar[bytes | str | Path]
    alt: str = ""
    mime: str = field(init=False)
    sha256: str = field(init=False)

    def __post_init__(self, source: bytes | str | Path) -> None:
        data = bytes(source) if isinstance(source, bytes | bytearray) else _read(Path(source))
        if len(data) > MAX_BYTES:
            raise InputError(f"{len(data)} bytes of media", allowed=f"at most {MAX_BYTES}")
        object.__setattr__(self, "mime", _type_of(data))
        object.__setattr__(self, "sha256", hashlib.sha256(data).hexdigest())
        object.__setattr__(self, "_data", data)

    @property
    def data(self) -> bytes:
        return bytes(self.__dict__["_data"])


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


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", place=str(path)) from None


def _type_of(data: bytes) -> str:
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    if data[:4] == b"RIFF" and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    raise InputError(
        f"media that begin with {data[:8]!r}",
        allowed="PNG, JPEG, GIF or WebP; MP3, Ogg, FLAC or WAV",
        next_step="convert the file; SVG is not shown, as it can hold scripts",
    )
