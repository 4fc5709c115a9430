"""An answer of the test server before it is sent: what faults change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Delivery = Literal["whole", "reset", "cut", "drip", "hang"]

CHARACTERS_A_TOKEN = 4


@dataclass
class Draft:
    """One answer to a request of chat completions.

    `texts`, `finishes`: a choice each; a text that is None is sent as null. `usage`: as the API has it, or
    None for an answer without it. `body`: sent instead of the completion, if not None. `delivery`: how the
    bytes go out: whole; not at all, the connection being reset; cut in the middle; in drips; or never
    (hang). `again`: an answer of the skill that is the same whatever is asked.
    """

    request: Mapping[str, Any]
    texts: list[str | None]
    finishes: list[str]
    usage: dict[str, int] | None
    again: Callable[[], str]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    body: bytes | None = None
    delivery: Delivery = "whole"
    refusals: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, request: Mapping[str, Any], texts: list[str], again: Callable[[], str]) -> Draft:
        """The faultless answer: texts end at the request's stop texts and after max_tokens."""
        cuts = [cut(text, request) for text in texts]
        prompt = sum(count_tokens(str(message.get("content", ""))) for message in request["messages"])
        completion = sum(count_tokens(text) for text, _ in cuts)
        return cls(request, [text for text, _ in cuts], [why for _, why in cuts], usage_of(prompt, completion), again)

    def change(self, edit: Callable[[str], str | None]) -> None:
        """Put another text in the place of each; what is used is counted anew."""
        self.texts = [edit(text or "") for text in self.texts]
        if self.usage is not None:
            completion = sum(count_tokens(text or "") for text in self.texts)
            self.usage = usage_of(self.usage["prompt_tokens"], completion)

    def payload(self) -> bytes:
        """The bytes of the body. Lone surrogates stay what they are in JSON: an escape."""
        if self.body is not None:
            return self.body
        choices = [
            {"index": i, "finish_reason": finish, "logprobs": None, "message": self._message(i, text)}
            for i, (text, finish) in enumerate(zip(self.texts, self.finishes, strict=True))
        ]
        completion = {
            "id": "chatcmpl-test",
            "object": "chat.completion",
            "created": 0,
            "model": self.request.get("model", "test"),
            "choices": choices,
        }
        if self.usage is not None:
            completion["usage"] = self.usage
        return json.dumps(completion).encode()

    def _message(self, index: int, text: str | None) -> dict[str, Any]:
        refusal = self.refusals[index] if index < len(self.refusals) else None
        return {"role": "assistant", "content": text, "refusal": refusal}


def cut(text: str, request: Mapping[str, Any]) -> tuple[str, str]:
    """The text up to a stop text and at most max_tokens tokens, and the finish reason."""
    stop = request.get("stop") or []
    for end in [stop] if isinstance(stop, str) else stop:
        text = text.partition(end)[0]
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit is None or count_tokens(text) <= limit:
        return text, "stop"
    return text[: CHARACTERS_A_TOKEN * limit], "length"


def count_tokens(text: str) -> int:
    """Tokens of the test server: 4 characters each."""
    return -(-len(text) // CHARACTERS_A_TOKEN)


def usage_of(prompt: int, completion: int) -> dict[str, int]:
    """The API's `usage`."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
