"""A language model that says what it is told to: for tests of programs that use one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import InputError, did_you_mean
from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.schema import Schema
from engine.llm.steering import MODES, read_steering, refuse_steering
from engine.llm.structured import check_request, complete_with_schema, text_of

Answer = str | Exception | Mapping[str, Any] | Sequence[Any] | int | float | bool | None
"""A text; an exception, which is raised; or any JSON value, which is said as JSON."""

Script = Sequence[Answer] | Mapping[str, Answer] | Callable[[Sequence[Message]], Answer]


@dataclass(frozen=True)
class Call:
    """One request that the model got."""

    messages: tuple[Message, ...]
    schema: Schema | None
    n: int
    sampling: Mapping[str, Any] = field(default_factory=dict)


class ScriptedLLM(LLM):
    """Answers from a script; the same requests in the same order always give the same answers.

    script: a list, used up one answer a choice (cycle=True starts again at its end); a mapping from the
    last message's text, or a part of it, to the answer; or a function of the messages.
    can_steer: whether it takes a steering, which changes nothing of what it says.
    With a schema, answers go through the same reading, checking and one repair request as those of any
    endpoint, so a script can be malformed on purpose. Tokens are counted as words;
    pictures and sounds are passed over.
    `calls` holds every request as the caller made it; `sent` every conversation that was answered,
    repair requests among them.
    """

    def __init__(self, script: Script, *, name: str = "scripted", cycle: bool = False, can_steer: bool = False) -> None:
        if isinstance(script, str):
            raise InputError(f"the script is the text {script!r:.60}", allowed="a list, a mapping or a function")
        self.name, self.steering_modes = name, MODES if can_steer else ()
        self.calls: list[Call] = []
        self.sent: list[tuple[Message, ...]] = []
        self._script, self._cycle = script, cycle
        self._used = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ScriptedLLM({self.name!r}, {len(self.calls)} calls)"

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        check_request(messages, n)
        if self.can_steer:
            read_steering(sampling.get("steering"))
        else:
            refuse_steering(sampling, self.name)
        with self._lock:
            self.calls.append(Call(tuple(messages), schema, n, sampling))
        if schema is None:
            return self._choices(messages, messages, n)
        return complete_with_schema(
            lambda told, count: self._choices(messages, told, count), messages, schema, n, place=self.name
        )

    def _choices(self, asked: Sequence[Message], sent: Sequence[Message], n: int) -> Completion:
        with self._lock:
            self.sent.append(tuple(sent))
        texts = tuple(_said(self._next(asked)) for _ in range(n))
        prompt_tokens = sum(len(text_of(message, passes_over=True).split()) for message in sent)
        usage = Usage(1, prompt_tokens, sum(len(text.split()) for text in texts))
        return Completion(texts, ("stop",) * n, usage=usage)

    def _next(self, messages: Sequence[Message]) -> Answer:
        if isinstance(self._script, Mapping):
            return self._looked_up(self._script, text_of(messages[-1], passes_over=True))
        if callable(self._script):
            return self._script(messages)
        with self._lock:
            index, self._used = self._used, self._used + 1
        if self._cycle and self._script:
            index %= len(self._script)
        if index >= len(self._script):
            raise InputError(
                f"the script has {len(self._script)} answers and was asked for one more",
                place=self.name,
                next_step="add answers, or pass cycle=True",
            )
        return self._script[index]

    def _looked_up(self, table: Mapping[str, Answer], text: str) -> Answer:
        """The answer to a text: of the equal key, else of the longest key that it contains."""
        keys = [text] if text in table else sorted((key for key in table if key in text), key=len)
        if not keys:
            raise InputError(
                f"the script has no answer to {text!r:.80}.{did_you_mean(text, table)}",
                place=self.name,
                allowed=", ".join(repr(key) for key in table),
            )
        return table[keys[-1]]


def _said(answer: Answer) -> str:
    if isinstance(answer, Exception):
        raise answer
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
