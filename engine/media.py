"""Pictures and sounds as values: in data, in messages to a model, in what people rank."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import DataError, InputError

MAX_BYTES = 8 << 20

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
_SOUNDS = {"audio/wav": "wav", "audio/mpeg": "mp3"}


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

    @property
    def is_image(self) -> bool:
        return self.mime.startswith("image/")

    @property
    def part(self) -> dict[str, Any]:
        """It as a part of a chat message's content, as the OpenAI API has it. Raises InputError for a sound of a type
        that the API does not take."""
        text = base64.b64encode(self.data).decode()
        if self.is_image:
            return {"type": "image_url", "image_url": {"url": f"data:{self.mime};base64,{text}"}}
        if self.mime not in _SOUNDS:
            raise InputError(f"a sound of type {self.mime} in a message", allowed=", ".join(_SOUNDS))
        return {"type": "input_audio", "input_audio": {"data": text, "format": _SOUNDS[self.mime]}}


def content(*items: str | Media) -> list[dict[str, Any]]:
    """The content of a chat message: texts, pictures and sounds in their order."""
    return [{"type": "text", "text": item} if isinstance(item, str) else item.part for item in items]


def media_in(value: Any) -> Iterator[Media]:
    """The pictures and sounds in a value: itself, or in mappings and sequences."""
    if isinstance(value, Media):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from media_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        for item in value:
            yield from media_in(item)


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
