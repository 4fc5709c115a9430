"""One vLLM server's control endpoints: health, weights, cache, adapters. Everything but completions.

The development endpoints (server started with VLLM_SERVER_DEV_MODE=1) are vLLM 0.32's; they change between
releases, so nothing else in this package knows their names.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from engine.errors import EngineError, EnvironmentMissing, LLMUnavailable

PAUSE = "/pause?mode=wait"
"""Requests that run are finished first: aborted ones would be asked for again, kept ones be of two versions."""

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerGone(Exception):
    """The server does not answer, or answers that its engine is dead: wait for it, push, ask again."""


class Refused(Exception):
    """The server answered with an error. `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status}: {reason}")
        self.status, self.reason = status, reason


class Endpoint:
    """One server. Every call raises ServerGone, or Refused for an answer that is an error."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url, self.key = url, key

    def is_healthy(self, timeout_s: float = 5.0) -> bool:
        """Whether the server answers that its engine is well."""
        try:
            self._call("GET", "/health", timeout_s=timeout_s)
        except (ServerGone, Refused):
            return False
        return True

    def models(self, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """The served models and adapters. Raises LLMUnavailable for a key that is refused."""
        try:
            return list(self._call("GET", "/v1/models", timeout_s=timeout_s)["data"])
        except Refused as error:
            raise refused_access(error, self.url) from None

    def version(self, timeout_s: float = 30.0) -> str:
        """The tag of the weights that the server samples from; "default" after its start."""
        try:
            return str(self._call("GET", "/weight_info", timeout_s=timeout_s)["weight_version"])
        except Refused as error:
            raise _no_development(error, self.url) from None

    def settings(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The server's resolved configuration."""
        try:
            return dict(self._call("GET", "/server_info?config_format=json", timeout_s=timeout_s)["vllm_config"])
        except Refused as error:
            raise _no_development(error, self.url) from None

    def weight_faults(self, shapes: dict[str, Sequence[int]], timeout_s: float) -> list[str]:
        """What of these weights the served model cannot take, without touching it."""
        body = {"method": "engine_weight_faults", "args": [{name: list(shape) for name, shape in shapes.items()}]}
        results = self._call("POST", "/collective_rpc", body, timeout_s)["results"]
        return [fault for faults in results for fault in faults]

    def load_file(self, path: str, tag: str, timeout_s: float) -> None:
        """Take up the weights of a file as version `tag`: pause, update, reset the prefix cache, resume."""
        clock = _Clock(timeout_s)
        self._call("POST", PAUSE, timeout_s=clock.left())
        self._call("POST", "/start_weight_update", timeout_s=clock.left())
        self._call("POST", "/update_weights", {"update_info": {"path": path}}, clock.left())
        self._call("POST", "/finish_weight_update", {"weight_version": tag}, clock.left())
        self.reset_cache(clock.left())
        self._call("POST", "/resume", timeout_s=clock.left())

    def reset_cache(self, timeout_s: float) -> None:
        """Forget the keys and values of all prompts: a weight update does not."""
        answer = self._call("POST", "/reset_prefix_cache", timeout_s=timeout_s)
        if isinstance(answer, dict) and answer.get("success") is False:
            raise Refused(500, "the prefix cache was not reset: requests are still running")

    def load_adapter(self, name: str, path: str, timeout_s: float) -> None:
        """Serve a LoRA adapter under a new name."""
        self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, timeout_s)

    def unload_adapter(self, name: str, timeout_s: float) -> None:
        """Forget an adapter."""
        self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout_s)

    def complete(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """One answer of /v1/completions."""
        return dict(self._call("POST", "/v1/completions", body, timeout_s))

    def post(self, path: str, body: Any, timeout_s: float) -> Any:
        """An endpoint that only one route of weights knows."""
        return self._call("POST", path, body, timeout_s)

    def get(self, path: str, timeout_s: float) -> Any:
        """As post, reading."""
        return self._call("GET", path, timeout_s=timeout_s)

    def _call(self, method: str, path: str, body: Any = None, timeout_s: float = 30.0) -> Any:
        """The JSON of the answer; None of an empty one."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with _NO_PROXY.open(request, timeout=timeout_s) as response:
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, reason_of(error.read().decode(errors="replace"))) from None
        except (OSError, TimeoutError) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            raise ServerGone(f"{self.url}{path.partition('?')[0]}: {reason or type(error).__name__}") from None
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text


class _Clock:
    """What is left of a timeout over several calls."""

    def __init__(self, timeout_s: float) -> None:
        self.end, self.timeout_s = time.monotonic() + timeout_s, timeout_s

    def left(self) -> float:
        """Seconds; raises ServerGone when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise ServerGone(f"not finished within {self.timeout_s:g} s")
        return left


def reason_of(text: str) -> str:
    """The message in the body of an error answer."""
    try:
        body = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:500] or "no reason given"
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return str(message)[:2000]


def refused_access(error: Refused, url: str) -> EngineError:
    """The error to raise for an answer that no resending changes: the key, the model."""
    if error.status in (401, 403):
        return LLMUnavailable(
            f"the vLLM server refuses the key (HTTP {error.status})",
            place=url,
            next_step="set the environment variable that policy.vllm.api_key_env names to the server's --api-key",
        )
    return LLMUnavailable(f"the vLLM server refuses the request: {error}", place=url)


def _no_development(error: Refused, url: str) -> EngineError:
    if error.status not in (403, 404, 405):
        return LLMUnavailable(f"the vLLM server does not tell its state: {error}", place=url)
    return EnvironmentMissing(
        "the vLLM server has no development endpoints, so it cannot take weights",
        place=url,
        next_step="start it as `engine policy serve CONFIG --print` shows (VLLM_SERVER_DEV_MODE=1)",
    )
