"""What every language model client offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""One chat message: {"role": "system" | "user" | "assistant", "content": text or parts}."""


@dataclass(frozen=True)
class Usage:
    """What calls cost. `cost_usd` is None where no price is known."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [c for c in (self.cost_usd, other.cost_usd) if c is not None]
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
            sum(costs) if costs else None,
        )


@dataclass(frozen=True)
class Completion:
    """The answer to one request: n choices, in order.

    `parsed` has the JSON value of each choice when a schema was given, else it is empty.
    `finish_reasons`: "stop", "length", ... a choice each.
    `rejected`: with a schema, why further choices stayed malformed and were left out, one text each.
    `is_cached`: taken from a record; `usage` is then what the recorded call cost.
    """

    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    parsed: tuple[Any, ...] = ()
    usage: Usage = field(default_factory=Usage)
    rejected: tuple[str, ...] = ()
    is_cached: bool = field(default=False, compare=False)

    @property
    def text(self) -> str:
        return self.texts[0]


class LLM(ABC):
    """A language model behind one method. Safe to call from several threads.

    `name` identifies model and place, for records and cache keys; it never holds a secret.
    `steering_modes`: the modes of the sampling argument `steering` (engine.llm.steering) that it takes, if any.
    """

    name: str
    steering_modes: tuple[str, ...] = ()

    @property
    def can_steer(self) -> bool:
        """Whether `complete` takes the sampling argument `steering`."""
        return bool(self.steering_modes)

    @abstractmethod
    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        n: int = 1,
        **sampling: Any,
    ) -> Completion:
        """n completions of the messages.

        schema: a JSON schema that each answer must satisfy; `parsed` then holds the values. A malformed
        choice is repaired by one further request, and left out of the completion if that fails too.
        sampling: temperature, top_p, max_tokens, seed, stop - the names of the OpenAI API.
        Raises LLMUnavailable (down, refused, unknown model) and AnswerError (no usable
        choice even after one repair request; the last text is in its message).
        """
