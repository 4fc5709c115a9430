"""vLLM behind HTTP: one or several servers, somebody's or our own.

A server that fails is asked nothing more until its weights are known to be the right ones: it is waited for (or,
if it is ours, started again), given the weights, probed, and then asked for what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import EngineError, EnvironmentMissing, LLMUnavailable, Stopped
from rl.policies._vllm.endpoint import Endpoint, Refused, ServerGone, refused_access
from rl.policies._vllm.launch import OwnServer
from rl.policies._vllm.payload import completion_body, error_rollouts, fault_of, rollouts_of
from rl.policies._vllm.probe import Difference, Scores, probe_ids, served_difference, trainer_scores
from rl.policies._vllm.routes import LoraRoute, Route
from rl.policies._vllm.settings import VllmConfig
from rl.policies._vllm.transport import Sent, Transport
from rl.types import Request, Rollout

_SAY_EVERY_S = 15.0
_POLL_S = 0.5
_FRUITLESS_ROUNDS = 3


@dataclass
class Trainer:
    """What the servers need to know of the trainer: how it computes, and where completions end."""

    tokenizer: Any
    autocast: torch.dtype | None
    end_ids: frozenset[int]
    vocabulary: int
    tolerance: float


class Served:
    """Generates on servers and keeps their weights those of the trainer.

    own: a server that ends with us. is_pusher: whether this process gives the weights (one of several does).
    `differences`: server -> what the last probe found.
    """

    def __init__(
        self,
        urls: Sequence[str],
        settings: VllmConfig,
        trainer: Trainer,
        route: Route,
        *,
        key: str | None = None,
        own: OwnServer | None = None,
        is_pusher: bool = True,
        say: Callable[[str], None] = print,
    ) -> None:
        self.settings, self.trainer, self.route, self.own = settings, trainer, route, own
        self.endpoints = {url: Endpoint(url, key) for url in urls}
        self.is_pusher, self.say = is_pusher, say
        self.scores: Scores | None = None
        self.beside: dict[str, Scores] = {}  # what the trainer computes with adapters that are served beside the run's
        self.differences: dict[str, Difference] = {}
        self._refused = ""
        self._base, self.context = self._met()
        self.ids = probe_ids(trainer.tokenizer, trainer.vocabulary, self.context)
        self._transport = Transport(
            urls, key=key, concurrency=settings.concurrency, timeout_s=settings.request_timeout_s
        )

    def generate(self, requests: Sequence[Request], version: int) -> list[list[Rollout]]:
        """The rollouts of each request; see Policy. Raises Stopped when no server comes back in time."""
        name = self.route.served_name(self._base) if self.has_weights else self._base
        return self._generate(requests, [name] * len(requests), [version] * len(requests))

    @property
    def holds_several(self) -> bool:
        """Whether further adapters can be served beside the run's."""
        return isinstance(self.route, LoraRoute) and self.is_pusher and self.has_weights

    def generate_beside(
        self, requests: Sequence[Request], models: Iterable[Any], version: int
    ) -> list[list[list[Rollout]]]:
        """The rollouts of the requests by each of the models, whose adapters are served side by side; see Policy."""
        assert isinstance(self.route, LoraRoute)
        try:
            for number, model in enumerate(models, version):
                name = self.route.put_beside(model, number)
                self.beside[name] = trainer_scores(model, self.ids, self.trainer.autocast)
            names, count = list(self.beside), len(requests)
            found = self._generate(
                list(requests) * len(names),
                [name for name in names for _ in requests],
                [version + i for i in range(len(names)) for _ in requests],
            )
        finally:
            self.beside = {}
            self.route.clear_beside(self.endpoints.values(), self.settings.sync_timeout_s)
        return [found[i * count : (i + 1) * count] for i in range(len(names))]

    def _generate(
        self, requests: Sequence[Request], names: Sequence[str], versions: Sequence[int]
    ) -> list[list[Rollout]]:
        """The rollouts of each request by the served model of that name, whose weights have that number."""
        faults = [fault_of(request, self.context) for request in requests]
        done = {
            i: error_rollouts(request, fault, versions[i])
            for i, (request, fault) in enumerate(zip(requests, faults, strict=True))
            if fault
        }
        fruitless = 0
        while missing := [i for i in range(len(requests)) if i not in done]:
            urls = self._ready()
            bodies = {i: completion_body(requests[i], names[i], self.context, self.trainer.end_ids) for i in missing}
            sent = self._transport.send(bodies, urls)
            fresh = self._sound(sent, requests, versions)
            done |= fresh
            fruitless = 0 if fresh else fruitless + 1
            if sent.gone:
                self._report(sent, len(requests) - len(done))
            if fruitless >= _FRUITLESS_ROUNDS:
                raise self._stopped(f"{fruitless} attempts in a row brought no answer", sent.gone)
        return [done[i] for i in range(len(requests))]

    def sync(self, model: Any, version: int) -> None:
        """Give the model's weights to all servers, as number `version`."""
        if not self.is_pusher:
            self.route.version = version
            return
        self.route.prepare(model, version)
        self.scores = trainer_scores(model, self.ids, self.trainer.autocast)
        self._ready()

    def close(self) -> None:
        self._transport.close()
        self.route.close()
        if self.own is not None:
            self.own.stop()

    def _met(self) -> tuple[str, int]:
        """The served model's name and context, once every server answers. Raises LLMUnavailable and ConfigError."""
        found = []
        for endpoint in self.endpoints.values():
            self._await_first(endpoint)
            served = {model["id"]: model for model in endpoint.models() if not model.get("parent")}
            name = self.settings.model or next(iter(served))
            if name not in served:
                raise LLMUnavailable(
                    f"the vLLM server has no model '{name}'",
                    place=endpoint.url,
                    allowed=", ".join(served),
                    next_step="correct policy.vllm.model, or leave it out",
                )
            found.append((name, int(served[name]["max_model_len"])))
            _require_settings(endpoint, self.route)
        return found[0][0], min(context for _, context in found)

    def _await_first(self, endpoint: Endpoint) -> None:
        if self.own is not None:
            self.own.wait(endpoint)
            return
        end, told = time.monotonic() + self.settings.start_timeout_s, -_SAY_EVERY_S
        while not endpoint.is_healthy():
            now = time.monotonic()
            if now > end:
                raise LLMUnavailable(
                    f"no vLLM server answered within {self.settings.start_timeout_s:g} s",
                    place=endpoint.url,
                    next_step="start it (`engine policy serve CONFIG`), or correct policy.vllm.servers",
                )
            if now - told > _SAY_EVERY_S:
                told = now
                self.say(f"waiting for the vLLM server at {endpoint.url}")
            time.sleep(_POLL_S)

    @property
    def has_weights(self) -> bool:
        """Whether there was a sync: servers are then asked only for samples of its version."""
        return self.route.version >= 0

    def _ready(self) -> list[str]:
        """The servers that are well and have the weights; every one is tried, and the first is waited for."""
        end, told = time.monotonic() + self.settings.restart_timeout_s, -_SAY_EVERY_S
        while True:
            reasons = {url: self._bring_up(endpoint) for url, endpoint in self.endpoints.items()}
            up = [url for url, reason in reasons.items() if not reason]
            if up:
                for url, reason in reasons.items():
                    if reason:
                        self.say(f"going on without the vLLM server at {url}: {reason}")
                return up
            now = time.monotonic()
            if now > end:
                raise self._stopped(f"no vLLM server came back within {self.settings.restart_timeout_s:g} s", reasons)
            if now - told > _SAY_EVERY_S:
                told = now
                self.say(f"waiting for vLLM, {end - now:.0f} s more: {_listed(reasons)}")
            time.sleep(_POLL_S)

    def _bring_up(self, endpoint: Endpoint) -> str:
        """Make sure that a server has the weights; why it cannot be used, or an empty string."""
        try:
            if not endpoint.is_healthy():
                self._restart_own("does not answer")
                if not endpoint.is_healthy():
                    return "it does not answer"
            if not self.has_weights or self.route.is_current(endpoint):
                return ""
            if not self.is_pusher:
                return "it does not have the weights of this run yet"
            self._push(endpoint)
        except ServerGone as error:
            return str(error)
        except Refused as error:
            # An update that failed half-way leaves an engine that cannot be trusted, whatever its health says.
            if self.own is None or self._refused == self.route.tag:
                raise self._stopped("the server refused the weights; it must be started again", str(error)) from None
            self._refused = self.route.tag
            self._restart_own(f"refused the weights ({error})")
            return str(error)
        return ""

    def _push(self, endpoint: Endpoint) -> None:
        """Weights, then proof."""
        if self.scores is None:
            return
        self.route.push(endpoint, self.settings.sync_timeout_s)

        def complete(body: dict[str, Any]) -> dict[str, Any]:
            return endpoint.complete(body, self.settings.sync_timeout_s)

        for name, scores in {self.route.served_name(self._base): self.scores, **self.beside}.items():
            found = served_difference(complete, name, self.ids, scores)
            self.differences[endpoint.url] = found
            found.require(self.trainer.tolerance, endpoint.url)

    def _restart_own(self, reason: str) -> None:
        """Start our own server again."""
        if self.own is None:
            return
        self.say(f"our vLLM server {reason}: starting it again")
        self.own.stop()
        self.own.start()
        self.own.wait(next(iter(self.endpoints.values())))

    def _sound(self, sent: Sent, requests: Sequence[Request], versions: Sequence[int]) -> dict[int, list[Rollout]]:
        """The rollouts of the answers that may be used: of servers that had the weights before and after."""
        current = {url: self._still_current(url) for url in set(sent.served_by.values())}
        rollouts = {}
        for i, answer in sent.answers.items():
            if not current[sent.served_by[i]]:
                continue
            if not isinstance(answer, Refused):
                rollouts[i] = rollouts_of(answer, requests[i], self.trainer.tokenizer, versions[i])
            elif answer.status in (401, 403, 404):
                raise refused_access(answer, sent.served_by[i])
            else:
                rollouts[i] = error_rollouts(requests[i], answer.reason, versions[i])
        return rollouts

    def _still_current(self, url: str) -> bool:
        """Whether a server still has the weights; one that has gone since its answers had them."""
        if not self.has_weights:
            return True
        try:
            return self.route.is_current(self.endpoints[url])
        except ServerGone:
            return True

    def _report(self, sent: Sent, missing: int) -> None:
        self.say(f"vLLM failed: {_listed(sent.gone)}; {missing} prompts of the batch are still to be sampled")

    def _stopped(self, reason: str, details: Mapping[str, str] | str) -> EngineError:
        told = details if isinstance(details, str) else _listed(details)
        return Stopped(
            f"{reason}{f' ({told})' if told else ''}",
            place=", ".join(self.endpoints),
            next_step="start the server again and go on with --resume",
        )


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{url}: {reason}" for url, reason in reasons.items() if reason)


def _require_settings(endpoint: Endpoint, route: Route) -> None:
    """Raise EnvironmentMissing for a server that was started without what this run needs."""
    settings = endpoint.settings()
    lacking = []
    if settings["model_config"].get("logprobs_mode") != "processed_logprobs":
        lacking.append("--logprobs-mode processed_logprobs")
    is_on_cpu = settings.get("device_config", {}).get("device") == "cpu"
    if is_on_cpu and settings.get("scheduler_config", {}).get("enable_chunked_prefill"):
        lacking.append("--no-enable-chunked-prefill (seeded requests kill the engine on a CPU)")
    if route.name == "lora":
        if not settings.get("lora_config"):
            lacking.append("--enable-lora")
    elif (settings.get("weight_transfer_config") or {}).get("backend") != route.name:
        lacking.append(f"""--weight-transfer-config '{{"backend": "{route.name}"}}'""")
    if lacking:
        raise EnvironmentMissing(
            f"the vLLM server was started without {' and '.join(lacking)}",
            place=endpoint.url,
            next_step="start it as `engine policy serve CONFIG --print` shows",
        )
