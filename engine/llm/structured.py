"""Answers that satisfy a schema, from models that may or may not oblige.

The schema is told in the messages, every answer is read tolerantly and checked exactly, and what is
malformed gets one repair request that shows the model its answer and the fault.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.errors import AnswerError, InputError
from engine.llm.allowance import is_paid
from engine.llm.base import Completion, Message, Usage
from engine.llm.parsing import Unreadable, read_answer
from engine.llm.schema import Schema, check_schema

Ask = Callable[[Sequence[Message], int], Completion]
"""(messages, n) -> a plain completion with n choices."""

INSTRUCTION = (
    "Answer with one JSON value and nothing else: no prose, no code fence. It must satisfy this JSON schema:\n{schema}"
)
REPAIR = (
    "That answer cannot be used: {fault}.\n"
    "Send the corrected answer: one JSON value that satisfies the schema, and nothing else."
)


class MalformedAnswer(AnswerError):
    """No usable answer after the one repair request; `texts` and `usage` say what came and what it cost."""

    def __init__(self, message: str, *, place: str, next_step: str, texts: Sequence[str], usage: Usage) -> None:
        super().__init__(message, place=place, next_step=next_step)
        self.texts, self.usage = tuple(texts), usage

    def to_json(self) -> dict[str, Any]:
        shown = {"message": self.message, "place": self.place, "next_step": self.next_step}
        return {**shown, "texts": list(self.texts), "usage": dataclasses.asdict(self.usage)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> MalformedAnswer:
        return cls(**{**stored, "usage": Usage(**stored["usage"])})


def check_request(messages: Sequence[Message], n: int) -> None:
    """Refuse what is not a conversation, or not a count of answers. Raises InputError."""
    allowed = 'a list such as [{"role": "user", "content": "..."}]'
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise InputError(f"messages is {messages!r:.60}", allowed=allowed)
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise InputError(f"message {index} is {message!r:.60}", allowed=allowed)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n is {n!r}", allowed="a whole number of answers, at least 1")


def text_of(message: Message, *, passes_over: bool = False) -> str:
    """The text of a message, its text parts joined. Raises InputError for other parts, or passes over them."""
    content = message["content"]
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        if part.get("type") != "text":
            if passes_over:
                continue
            raise InputError(f"this model reads text only, not a part of type {part.get('type')!r}")
        texts.append(str(part["text"]))
    return "\n".join(texts)


def with_instruction(messages: Sequence[Message], schema: Schema) -> list[Message]:
    """The messages with the schema told at the end of the last one."""
    words = INSTRUCTION.format(schema=json.dumps(schema, ensure_ascii=False))
    last = messages[-1]
    if last["role"] != "user":
        return [*messages, {"role": "user", "content": words}]
    content = last["content"]
    told = f"{content}\n\n{words}" if isinstance(content, str) else [*content, {"type": "text", "text": words}]
    return [*messages[:-1], {**last, "content": told}]


def complete_with_schema(ask: Ask, messages: Sequence[Message], schema: Schema, n: int, *, place: str) -> Completion:
    """n answers that satisfy the schema, fewer when some stay malformed after one repair request, if that is paid for.

    Raises MalformedAnswer when none is usable; `rejected` of the completion holds why others are not.
    """
    check_schema(schema)
    told = with_instruction(messages, schema)
    first = ask(told, n)
    answers = [_read(text, finish, schema) for text, finish in zip(first.texts, first.finish_reasons, strict=True)]
    texts, finishes, usage = list(first.texts), list(first.finish_reasons), first.usage
    broken = [index for index, answer in enumerate(answers) if isinstance(answer, Unreadable)]
    repair = _repair(told, texts[broken[0]], str(answers[broken[0]])) if broken else []
    is_repaired = bool(broken) and is_paid(repair, len(broken))
    if is_repaired:
        second = ask(repair, len(broken))
        usage += second.usage
        for index, text, finish in zip(broken, second.texts, second.finish_reasons, strict=False):
            texts[index], finishes[index], answers[index] = text, finish, _read(text, finish, schema)
    kept = [index for index, answer in enumerate(answers) if not isinstance(answer, Unreadable)]
    rejected = tuple(str(answer) for answer in answers if isinstance(answer, Unreadable))
    if not kept:
        tried = "also after one repair request" if is_repaired else "and the budget pays for no repair request"
        raise MalformedAnswer(
            f"the answer is malformed, {tried}: {rejected[0]}. It was: {texts[0]!r:.300}",
            place=place,
            next_step="ask a stronger model, raise max_tokens, or simplify what is asked for",
            texts=texts,
            usage=usage,
        )
    chosen = [(texts[i], finishes[i], answers[i]) for i in kept]
    kept_texts, kept_finishes, parsed = zip(*chosen, strict=True)
    return Completion(kept_texts, kept_finishes, parsed, usage, rejected)


def _read(text: str, finish_reason: str, schema: Schema) -> Any:
    """The value in an answer, or why there is none."""
    try:
        return read_answer(text, schema)
    except Unreadable as fault:
        return Unreadable(f"{fault} (max_tokens was reached)") if finish_reason == "length" else fault


def _repair(messages: Sequence[Message], answer: str, fault: str) -> list[Message]:
    # A long broken answer is shown by its start: the fault says what to change.
    shown = {"role": "assistant", "content": answer[:4000] or "(empty)"}
    return [*messages, shown, {"role": "user", "content": REPAIR.format(fault=fault)}]
