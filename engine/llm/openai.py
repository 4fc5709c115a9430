"""Any OpenAI-compatible endpoint, through the openai package.

Retries (connection, 408, 409, 429, 5xx, with Retry-After respected) and timeouts are the package's own; an answer
with status 200 that is no completion (a proxy's page, no choices, broken bytes) is asked for again as often.
What a server cannot do - JSON schemas, JSON mode, n > 1, the name max_tokens - is found out
by its refusal, done another way, and remembered for the life of the client.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import openai

from engine.errors import ConfigError, EngineError, InputError, LLMUnavailable, did_you_mean
from engine.llm.allowance import is_paid
from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.limits import RateLimit
from engine.llm.response import read_response, sendable
from engine.llm.schema import Schema, is_closed
from engine.llm.steering import refuse_steering
from engine.llm.structured import check_request, complete_with_schema

PAUSE_S = 0.1
"""Before what was no completion is asked for again; twice as long each time."""

NO_KEY = "none"
"""Sent as the key to servers that want none, as local ones do."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class OpenAILLM(LLM):
    """A model behind an OpenAI-compatible chat endpoint.

    base_url: of the server, ending in /v1; None is OPENAI_BASE_URL, else OpenAI itself.
    api_key: None is OPENAI_API_KEY, which goes to OPENAI_BASE_URL or OpenAI and nowhere else; another base_url
    gets ENGINE_LLM_API_KEY if that is set. The key is in no name, repr, error or record.
    timeout_s: the longest silence of the server; max_retries: further tries of a request.
    price: US dollars per million (prompt, completion) tokens; without it `cost_usd` is None.
    max_concurrency: requests under way at a time; None is no limit.
    defaults: sampling that every call gets unless it says otherwise.
    """

    is_remote = True

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 120.0,
        max_retries: int = 3,
        max_concurrency: int | None = 64,
        max_requests_per_minute: int | None = None,
        price: tuple[float, float] | None = None,
        **defaults: Any,
    ) -> None:
        env_url = os.environ.get("OPENAI_BASE_URL") or None
        address = base_url or env_url
        is_own = base_url is None or (env_url is not None and base_url.rstrip("/") == env_url.rstrip("/"))
        key = api_key or os.environ.get("OPENAI_API_KEY" if is_own else "ENGINE_LLM_API_KEY")
        if not key and address is None:
            raise LLMUnavailable(
                f"no key for the model '{model}'",
                place="OpenAI",
                next_step="set OPENAI_API_KEY, or give the base_url of your own server",
            )
        _check_sampling(defaults)
        self.model = model
        self._key = key or NO_KEY
        self._client = _client(address, self._key, timeout_s, max_retries)
        # Connections are closed with the last reference to this client; no caller has to remember it.
        weakref.finalize(self, self._client.close)
        self.place = public_url(str(self._client.base_url))
        self.name = f"openai:{model}@{self.place}"
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._limit = RateLimit(max_concurrency=max_concurrency, max_per_minute=max_requests_per_minute)
        self._price = Price(*price) if price else None
        self.price, self.tells_cost = price, price is not None
        self._defaults = defaults
        self._missing: set[str] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OpenAILLM({self.model!r}, base_url={self.place!r})"

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        check_request(messages, n)
        refuse_steering(sampling, self.name)
        _check_sampling(sampling)
        sampling = {**self._defaults, **sampling}
        if schema is None:
            return self._choices(messages, n, None, sampling)
        return complete_with_schema(
            lambda told, count: self._choices(told, count, schema, sampling), messages, schema, n, place=self.name
        )

    def _choices(
        self, messages: Sequence[Message], n: int, schema: Schema | None, sampling: Mapping[str, Any]
    ) -> Completion:
        """n choices, in several requests where the server gives fewer at once and they are paid for.

        Each further request has a seed of its own, or a server would give the same choice again.
        """
        texts: list[str] = []
        finishes: list[str] = []
        usage = Usage()
        while len(texts) < n and (not texts or is_paid(messages, n - len(texts))):
            seed = sampling.get("seed")
            own = {**sampling, "seed": seed + len(texts)} if texts and isinstance(seed, int) else sampling
            answer = self._negotiated(messages, n - len(texts), schema, own)
            texts += answer.texts
            finishes += answer.finish_reasons
            usage += answer.usage
        return Completion(tuple(texts[:n]), tuple(finishes[:n]), usage=usage)

    def _negotiated(
        self, messages: Sequence[Message], n: int, schema: Schema | None, sampling: Mapping[str, Any]
    ) -> Completion:
        """One answered request; features that the server refuses are left out, one after the other."""
        with self._lock:
            missing = set(self._missing)
        while True:
            arguments, used = _arguments(n, schema, sampling, missing)
            try:
                answer = self._request(messages, arguments)
                break
            except _Refused as error:
                refused = error
            feature = _culprit(refused.text, used)
            if feature is None:
                raise refused.error
            missing.add(feature)
        with self._lock:
            self._missing |= missing
        return answer

    def _request(self, messages: Sequence[Message], arguments: Mapping[str, Any]) -> Completion:
        """One answered request; what is no completion is asked for again."""
        for attempt in range(self._max_retries + 1):
            try:
                return self._tried(messages, arguments)
            except _NoCompletion as error:
                failure = error.error
            if attempt < self._max_retries:
                time.sleep(PAUSE_S * 2**attempt)
        raise failure

    def _tried(self, messages: Sequence[Message], arguments: Mapping[str, Any]) -> Completion:
        started = time.monotonic()
        failure: EngineError
        try:
            with self._limit.slot():
                started = time.monotonic()
                response = self._client.chat.completions.create(
                    model=self.model,
                    messages=[sendable(m) for m in messages],
                    **arguments,
                )
            return self._priced(read_response(response, messages, _limit(arguments), time.monotonic() - started))
        except openai.OpenAIError as error:
            failure = self._explained(error)
        except ValueError as error:
            failure = self._not_a_completion(str(error))
        # Raised here, outside of the handlers: the package's error holds the request with its key.
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame: a cycle that would keep the connections open

    def _priced(self, completion: Completion) -> Completion:
        used = completion.usage
        cost = self._price.cost(used.prompt_tokens, used.completion_tokens) if self._price else None
        return replace(completion, usage=replace(used, cost_usd=cost))

    def _not_a_completion(self, shown: str) -> EngineError:
        return _NoCompletion(
            LLMUnavailable(
                f"the server's answer is not a chat completion: {self._safe(shown):.200}",
                place=self.place,
                next_step="check that the base URL is that of an OpenAI-compatible API; it usually ends in /v1",
            )
        )

    def _explained(self, error: openai.OpenAIError) -> EngineError:
        """The error in the user's terms: what happened, where, and what to do."""
        tries = f"with up to {self._max_retries} retries"
        text = self._safe(str(getattr(error, "message", None) or error))
        message, step = f"the request failed: {text:.300}", "check the endpoint"
        if isinstance(error, openai.APITimeoutError):
            message = f"no answer within {self._timeout_s:g} s, {tries}"
            step = "raise timeout_s, lower max_tokens, or check the server's load"
        elif isinstance(error, openai.APIConnectionError):
            message = f"cannot be reached, or the connection broke, {tries}: {self._safe(repr(error.__cause__)):.200}"
            step = "start the server, or correct the address"
        elif isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            message = f"the key is refused (status {error.status_code}): {text:.300}"
            step = "set OPENAI_API_KEY, for a base_url of your own ENGINE_LLM_API_KEY, or pass api_key="
        elif isinstance(error, openai.NotFoundError):
            message = f"no model '{self.model}', or no such address: {text:.300}"
            step = "use a model that the server lists under /models; the base URL usually ends in /v1"
        elif isinstance(error, openai.RateLimitError):
            message = f"too many requests, or the quota is spent, {tries}: {text:.300}"
            step = "lower workers, set max_requests_per_minute, or check the account"
        elif isinstance(error, openai.APIStatusError):
            message = f"status {error.status_code}: {text:.300}"
            if error.status_code < 500:
                step = "correct the request; the server's text says what it refuses"
                failure = LLMUnavailable(message, place=self.name, next_step=step)
                return _Refused(failure, f"{text} {error.param or ''}") if error.status_code in (400, 422) else failure
            message, step = f"{message}, {tries}", "look at the server's log, or try later"
        return LLMUnavailable(message, place=self.name, next_step=step)

    def _safe(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._key, "***") if self._key != NO_KEY else text


class _NoCompletion(EngineError):
    """An answer that is none; the server may do better when asked again."""

    def __init__(self, error: LLMUnavailable) -> None:
        super().__init__(str(error))
        self.error = error


class _Refused(EngineError):
    """A request that the server calls wrong: perhaps it lacks a feature."""

    def __init__(self, error: LLMUnavailable, text: str) -> None:
        super().__init__(str(error))
        self.error, self.text = error, text.lower()


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _client(base_url: str | None, key: str, timeout_s: float, max_retries: int) -> openai.OpenAI:
    if base_url is not None and urlsplit(base_url).scheme not in ("http", "https"):
        raise ConfigError(
            f"base_url is '{public_url(base_url)}'", allowed="an address such as http://localhost:8000/v1"
        )
    return openai.OpenAI(api_key=key, base_url=base_url, timeout=timeout_s, max_retries=max_retries)


def _check_sampling(sampling: Mapping[str, Any]) -> None:
    """Refuse arguments that the API does not have, or that could carry a secret or change the contract."""
    own = {"self", "messages", "model", "n", "response_format", "stream", "stream_options", "timeout"}
    secret = {"extra_headers", "extra_query"}
    known = set(inspect.signature(openai.resources.chat.Completions.create).parameters) - own - secret
    for name in sampling:
        if name not in known:
            raise InputError(
                f"no sampling argument '{name}'.{did_you_mean(name, known)}",
                allowed="temperature, top_p, max_tokens, seed, stop and others of the chat completions API",
            )


def _limit(arguments: Mapping[str, Any]) -> int | None:
    """The most tokens of a choice, by either of its names."""
    return arguments.get("max_tokens") or arguments.get("max_completion_tokens")


def _arguments(
    n: int, schema: Schema | None, sampling: Mapping[str, Any], missing: set[str]
) -> tuple[dict[str, Any], list[str]]:
    """What to send, and the features used that a server may lack, in the order to give them up."""
    arguments, used = dict(sampling), []
    if "max_tokens" in arguments:
        if "max_tokens" in missing:
            arguments["max_completion_tokens"] = arguments.pop("max_tokens")
        else:
            used.append("max_tokens")
    if schema is not None and "json_schema" not in missing:
        strict = {"name": "answer", "schema": dict(schema), "strict": is_closed(schema)}
        arguments["response_format"] = {"type": "json_schema", "json_schema": strict}
        used.append("json_schema")
    elif schema is not None and "json_object" not in missing:
        arguments["response_format"] = {"type": "json_object"}
        used.append("json_object")
    if n > 1 and "n" not in missing:
        arguments["n"] = n
        used.append("n")
    return arguments, used


def _culprit(text: str, used: Sequence[str]) -> str | None:
    """The feature to give up after a refusal; None when the refusal is about something else."""
    if "context length" in text or "context_length" in text or "maximum context" in text:
        return None
    if "max_tokens" in used and "max_completion_tokens" in text:
        return "max_tokens"
    formats = [feature for feature in used if feature.startswith("json")]
    if formats and not ("n" in used and ("'n'" in text or "`n`" in text or "n >" in text)):
        return formats[0]
    return "n" if "n" in used else None
