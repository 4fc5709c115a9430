"""A language model whose calls are counted and paid for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from engine.budget import Ledger
from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.cache import CachedLLM
from engine.llm.images import TOKENS_AN_IMAGE, size_of
from engine.llm.schema import Schema
from engine.llm.structured import MalformedAnswer

CHARACTERS_A_TOKEN = 3
DEFAULT_MAX_TOKENS = 512


class MeteredLLM(LLM):
    """A model that spends from a ledger.

    Before a call, one call, an estimate of its tokens (a token for every 3 characters of the messages, 1024 for
    an image, and max_tokens for each choice) and the price of the dearest call so far are reserved; afterwards
    the account is set to what was used. A repair request counts as a call of its own.
    Each call is given its own seed, made of the run's seed, the step and the call's number in the step, so that
    equal prompts get different answers and a resumed run asks for the same ones.
    """

    def __init__(self, llm: LLM, ledger: Ledger, *, seed: int = 0) -> None:
        self._llm, self._ledger, self._seed = llm, ledger, seed
        self.name = llm.name
        self.usage = Usage()
        self._lock = threading.Lock()
        self._step = self._number = 0
        self._dearest = 0.0

    @property
    def steering_modes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._llm.steering_modes

    def begin_step(self, step: int) -> None:
        """Number the calls from here on as this step's."""
        self._step, self._number = step, 0

    def close(self) -> None:
        """Close the record of calls, where the model keeps one."""
        if isinstance(self._llm, CachedLLM):
            self._llm.close()

    def load(self, usage: Mapping[str, Any]) -> None:
        """Count on from an earlier usage."""
        self.usage = Usage(**usage)

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        sampling.setdefault("seed", self._next_seed())
        sampling.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
        characters, images = size_of(messages)
        characters += len(str(schema or ""))
        reserved = {
            "calls": 1.0,
            "tokens": float(characters // CHARACTERS_A_TOKEN + images * TOKENS_AN_IMAGE + n * sampling["max_tokens"]),
            "usd": self._dearest,
        }
        self._ledger.reserve(**reserved)
        try:
            completion = self._llm.complete(messages, schema=schema, n=n, **sampling)
        except MalformedAnswer as error:
            self._settle(reserved, error.usage)
            raise
        except BaseException:
            self._settle(reserved, Usage())
            raise
        self._settle(reserved, completion.usage)
        return completion

    def _settle(self, reserved: dict[str, float], used: Usage) -> None:
        """Replace what was reserved by what was used."""
        cost = used.cost_usd or 0.0
        actual = {"calls": used.calls, "tokens": used.prompt_tokens + used.completion_tokens, "usd": cost}
        with self._lock:
            self.usage = self.usage + used
            self._dearest = max(self._dearest, cost)
        self._ledger.charge(**{name: actual[name] - amount for name, amount in reserved.items()})

    def _next_seed(self) -> int:
        with self._lock:
            self._number += 1
            text = f"{self._seed}/{self._step}/{self._number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
