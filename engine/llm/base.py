"""What every language model client offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import InputError

CHARACTERS_A_TOKEN = 3
"""For estimates of what a text costs; English has about 4."""

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
    `finish_reasons`: "stop", "length", "refusal", ... a choice each.
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


@dataclass(frozen=True)
class Request:
    """The arguments of one `complete`: n plain completions of the messages."""

    messages: Sequence[Message]
    n: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)


class LLM(ABC):
    """A language model behind one method. Safe to call from several threads.

    `name` identifies model and place, for records and cache keys; it never holds a secret. `is_remote`: calls
    made at the same time are answered at the same time, and each answer is the same as if it were alone.
    `price`: US dollars per million tokens of prompts and of answers, where that is known; `tells_cost`: whether a
    call's usage says what it cost, where it cost anything. `steering_modes`: the modes of the sampling argument
    `steering` (engine.llm.steering) that it takes, if any.
    """

    name: str
    is_remote: bool = False
    price: tuple[float, float] | None = None
    tells_cost: bool = True
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
        choice is repaired by one further request, and left out of the completion if that fails too. There are fewer
        choices also where a budget does not pay for the further requests that they take.
        sampling: temperature, top_p, max_tokens, seed, stop - the names of the OpenAI API.
        Raises LLMUnavailable (down, refused, unknown model) and AnswerError (no usable
        choice even after one repair request; the last text is in its message).
        """

    @property
    def can_embed(self) -> bool:
        """Whether `embed` gives vectors."""
        return False

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text, made of the model's hidden states. Raises InputError where it shows none."""
        raise InputError(
            f"{self.name} shows no hidden states", place="llm", allowed="local:NAME, a model in this process"
        )

    def complete_all(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The completions of several requests, in order; raises what `complete` raises, when the turn comes to it."""
        for request in requests:
            yield self.complete(request.messages, n=request.n, **request.sampling)
