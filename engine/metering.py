"""A language model whose calls are counted and paid for."""

from __future__ import annotations

import contextvars
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from engine.budget import Ledger, LimitReached
from engine.llm.allowance import paid_by
from engine.llm.base import LLM, Completion, Message, Request, Usage
from engine.llm.cache import CachedLLM
from engine.llm.response import estimated_tokens, prompt_tokens
from engine.llm.schema import Schema
from engine.llm.structured import MalformedAnswer

DEFAULT_MAX_TOKENS = 512

TELLING_TOKENS = 100
"""A shorter prompt says little of how good the estimates are: a chat template's own tokens weigh too much in it."""


class MeteredLLM(LLM):
    """A model that spends from a ledger.

    Before a call, one call, an estimate of its tokens (a token for every 3 characters of the messages, 1,500 for a
    picture or a sound, and max_tokens for each choice) and its price, or where that is not known the price of the
    dearest call so far, are reserved; afterwards the account is set to what was used. A further request of the same
    call - to repair an answer, or because a server gave too few choices - is reserved in the same way before it is
    sent, and left out where the budget does not pay for it. Once a prompt took more tokens than estimated,
    later ones are estimated higher by the same factor. So the budget is kept as long as the server keeps max_tokens
    and the first prompt's estimate holds.
    Each call is given its own seed, made of the run's seed, the step and the call's number in the step, so that
    equal prompts get different answers and a resumed run asks for the same ones.
    """

    def __init__(self, llm: LLM, ledger: Ledger, *, seed: int = 0) -> None:
        self._llm, self._ledger, self._seed = llm, ledger, seed
        self.name, self.is_remote, self.price, self.tells_cost = llm.name, llm.is_remote, llm.price, llm.tells_cost
        self.usage = Usage()
        self._lock = threading.Lock()
        self._step = self._number = 0
        self._dearest = 0.0
        self._factor = 1.0

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

    def rates(self) -> dict[str, float]:
        """What earlier calls showed of costs: the dearest call, and how far estimates of prompts were too low."""
        return {"dearest": self._dearest, "factor": self._factor}

    def load(self, usage: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> None:
        """Count on from an earlier usage, and its `rates`."""
        self.usage = Usage(**usage)
        rates = rates or {}
        self._dearest, self._factor = rates.get("dearest", self._dearest), rates.get("factor", self._factor)

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        if "seed" not in sampling:
            sampling["seed"] = self._next_seed()
        sampling.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
        limit = sampling["max_tokens"]
        reserved = self._estimate(messages, schema, n, limit)
        self._ledger.reserve(**reserved)

        def allow(told: Sequence[Message], count: int) -> bool:
            # The schema stands in the messages by now.
            more = self._estimate(told, None, count, limit)
            try:
                self._ledger.reserve(**more)
            except LimitReached:
                return False
            for name, amount in more.items():
                reserved[name] += amount
            return True

        try:
            with paid_by(allow):
                completion = self._llm.complete(messages, schema=schema, n=n, **sampling)
        except MalformedAnswer as error:
            self._settle(reserved, error.usage)
            raise
        except BaseException:
            self._settle(reserved, Usage())
            raise
        self._learn(_prompt(messages, schema), completion.usage)
        self._settle(reserved, completion.usage)
        return completion

    @property
    def can_embed(self) -> bool:
        return self._llm.can_embed

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The model's vectors; they come from this process and cost nothing of the budget but time."""
        return self._llm.embed(texts)

    def complete_all(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The completions of several requests, in order; of a remote model they are asked for at the same time.

        One after the other where the budget might end on the way, so that it does not hang on the order of
        threads for which of them it is enough. Raises what `complete` raises, when the turn comes to it.
        """
        numbered = [replace(r, sampling={"seed": self._next_seed(), **r.sampling}) for r in requests]
        if not self.is_remote or len(numbered) < 2 or not self._is_ample(numbered):
            for request in numbered:
                yield self._asked(request)
            return
        pool = ThreadPoolExecutor(len(numbered), thread_name_prefix="engine-ask")
        futures = [pool.submit(contextvars.copy_context().run, self._asked, request) for request in numbered]
        try:
            for future in futures:
                yield future.result()
        except BaseException as error:
            # After an error the other answers are waited for, to be recorded; an interrupt does not wait.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()

    def _asked(self, request: Request) -> Completion:
        return self.complete(request.messages, n=request.n, **request.sampling)

    def _is_ample(self, requests: Sequence[Request]) -> bool:
        """Whether the budget pays for the requests even if each choice takes a request of its own."""
        needed = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
        for request in requests:
            limit = request.sampling.get("max_tokens", DEFAULT_MAX_TOKENS)
            for name, amount in self._estimate(request.messages, None, request.n, limit).items():
                needed[name] += request.n * amount
        return all(self._ledger.left(name) >= amount for name, amount in needed.items())

    def _estimate(self, messages: Sequence[Message], schema: Schema | None, n: int, limit: int) -> dict[str, float]:
        """What a request may cost."""
        prompt, answer = int(_prompt(messages, schema) * self._factor), n * limit
        usd = self._dearest
        if self.price is not None:
            usd = (self.price[0] * prompt + self.price[1] * answer) / 1e6
        return {"calls": 1.0, "tokens": float(prompt + answer), "usd": usd}

    def _learn(self, estimated: int, used: Usage) -> None:
        """Take note of a language, or a template, that needs more tokens than were reckoned with."""
        if estimated >= TELLING_TOKENS and used.calls:
            with self._lock:
                self._factor = max(self._factor, used.prompt_tokens / used.calls / estimated)

    def _settle(self, reserved: Mapping[str, float], used: Usage) -> None:
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


def _prompt(messages: Sequence[Message], schema: Schema | None) -> int:
    """The tokens that a prompt is estimated to have."""
    return sum(map(prompt_tokens, messages)) + estimated_tokens(str(schema or ""))
