"""Images in messages to a model that sees, as data URLs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import DataError, InputError

KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
TOKENS_AN_IMAGE = 1024
"""What an image is reckoned at before its cost is known; servers take some 85 to 2,000."""


def image_message(text: str, images: Sequence[bytes | str | Path], *, role: str = "user") -> dict[str, Any]:
    """A chat message of images (files, or what stands in them) and a text after them."""
    return {"role": role, "content": [*map(image_part, images), {"type": "text", "text": text}]}


def image_part(image: bytes | str | Path) -> dict[str, Any]:
    """The part of a message's content that holds an image. Raises DataError, InputError for what is none."""
    place = "bytes" if isinstance(image, bytes) else str(image)
    try:
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"the image cannot be read: {error.strerror}", place=place) from None
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), None)
    if kind is None:
        raise InputError("not an image that models are sent", place=place, allowed="PNG, JPEG, GIF, WebP")
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def size_of(messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """The characters of the messages' texts, and the number of their images and other parts."""
    parts = [part for m in messages for part in (m["content"] if _is_parts(m["content"]) else [_text(m["content"])])]
    texts = [part["text"] for part in parts if part.get("type") == "text"]
    return sum(len(str(text)) for text in texts), len(parts) - len(texts)


def _is_parts(content: Any) -> bool:
    return not isinstance(content, str) and isinstance(content, Sequence)


def _text(content: Any) -> dict[str, Any]:
    return {"type": "text", "text": content}
