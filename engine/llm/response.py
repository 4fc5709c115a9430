"""What a chat endpoint sent, as a completion: nothing in it is taken for granted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.llm.base import CHARACTERS_A_TOKEN, Completion, Message, Usage

TOKENS_A_PART = 1500
"""What a picture or a sound is taken to cost before the server has counted it, which most do differently."""

MOST_CHARACTERS_A_TOKEN = 32
"""An answer longer than this for each token of max_tokens comes from a server that does not keep max_tokens."""


def read_response(response: Any, messages: Sequence[Message], max_tokens: int | None, seconds: float) -> Completion:
    """The completion, without its cost. Raises ValueError for what is none.

    A refusal is the text of its choice, with the finish reason "refusal". A text that goes on far beyond
    max_tokens is cut, with the finish reason "length". Where the server does not say what was used, or says what
    cannot be, tokens are estimated: one for every 3 characters.
    """
    choices = getattr(response, "choices", None)
    if not choices or not isinstance(choices, list):
        raise ValueError(f"{response!r:.120}")
    read = [_choice(choice, max_tokens) for choice in choices]
    texts, finishes = zip(*read, strict=True)
    told = getattr(response, "usage", None)
    prompt = _count(getattr(told, "prompt_tokens", None))
    completion = _count(getattr(told, "completion_tokens", None))
    if prompt is None:
        prompt = sum(map(prompt_tokens, messages))
    if completion is None:
        completion = sum(map(estimated_tokens, texts))
    return Completion(texts, finishes, usage=Usage(1, prompt, completion, seconds))


def prompt_tokens(message: Message) -> int:
    """An estimate of what a message costs."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [str(part["text"]) for part in parts if part.get("type") == "text"]
    return estimated_tokens("".join(texts)) + (len(parts) - len(texts)) * TOKENS_A_PART


def estimated_tokens(text: str) -> int:
    """A token for every 3 characters, rounded up."""
    return math.ceil(len(text) / CHARACTERS_A_TOKEN)


def sendable(value: Any) -> Any:
    """The same JSON value with "?" for halves of surrogate pairs, which no request can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: sendable(item) for key, item in value.items()}
    return [sendable(item) for item in value] if isinstance(value, list | tuple) else value


def _choice(choice: Any, max_tokens: int | None) -> tuple[str, str]:
    """Text and finish reason of one choice."""
    message = getattr(choice, "message", None)
    if message is None:
        raise ValueError(f"a choice without a message: {choice!r:.120}")
    text, finish = _text(getattr(message, "content", None)), str(getattr(choice, "finish_reason", None) or "stop")
    refusal = getattr(message, "refusal", None)
    if not text and isinstance(refusal, str) and refusal:
        return refusal, "refusal"
    if max_tokens is not None and len(text) > (most := MOST_CHARACTERS_A_TOKEN * max_tokens):
        return text[:most], "length"
    return text, finish


def _text(content: Any) -> str:
    """The content as text: of parts, as some servers send, the texts."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    raise ValueError(f"content that is no text: {content!r:.120}")


def _count(value: Any) -> int | None:
    """A number of tokens as told; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
