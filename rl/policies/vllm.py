"""Sampling by vLLM: on servers, or in this process beside the trainer.

The deployments and the ways of the weights are in rl/policies/_vllm; README says which to take on which machine.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.errors import ConfigError, InputError
from rl.policies._vllm.launch import Command, OwnServer, server_command
from rl.policies._vllm.routes import ROUTES
from rl.policies._vllm.served import Served, Trainer
from rl.policies._vllm.settings import VllmConfig
from rl.policies._vllm.weights import is_adapted
from rl.policies.base import Policy, Setup, check_request
from rl.policies.local import autocast_dtype, end_ids
from rl.types import Request, Rollout

TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest mean |difference| of log-probs between vLLM and transformers: 6e-6 and 0.05 were measured."""


class Backend(Protocol):
    """A deployment."""

    def generate(self, requests: Sequence[Request], version: int) -> list[list[Rollout]]: ...
    def sync(self, model: Any, version: int) -> None: ...
    def close(self) -> None: ...


class VllmPolicy(Policy):
    """Samples with vLLM.

    model: the model that is trained; only its config and end tokens are read before the first `sync`.
    model_path: what vLLM loads. autocast: the trainer's, which the probe's forward uses. settings: the
    `policy.vllm:` section. log: a file for the output of a server of our own. is_main: of several trainer
    processes, the one that starts a server and gives it the weights; run: a token that all of them have.
    is_overlapped: whether batches are sampled while the model is being updated. say: takes a line for people.

    Raises EnvironmentMissing and LLMUnavailable for servers that cannot be used, and ConfigError for settings
    that contradict each other. `generate` and `sync` raise Stopped when servers stay away, and Mismatch when a
    server's log-probs are not those of the weights that it was given.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        model_path: str,
        autocast: torch.dtype | str | None = None,
        settings: VllmConfig | None = None,
        version: int = 0,
        log: Path | None = None,
        is_main: bool = True,
        run: str | None = None,
        is_overlapped: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings or VllmConfig()
        self.version = version
        self.say = say or _to_stderr
        computed = autocast_dtype(autocast) or next(model.parameters()).dtype
        self.dtype = str(computed).removeprefix("torch.") if self.settings.dtype == "auto" else self.settings.dtype
        self.deployment = deployment_of(self.settings)
        self.route = route_of(self.settings, self.deployment, has_adapters=is_adapted(model))
        trainer = Trainer(
            tokenizer,
            autocast_dtype(autocast),
            end_ids(model, tokenizer),
            int(model.config.get_text_config().vocab_size),
            self.settings.tolerance or TOLERANCES[self.dtype],
        )
        self.backend = self._built(model, model_path, trainer, log, is_main, run, is_overlapped)

    @classmethod
    def of(cls, setup: Setup) -> VllmPolicy:
        """The policy of a run; a server of our own logs into the run's folder."""
        return cls(
            setup.model,
            setup.tokenizer,
            model_path=setup.model_path,
            autocast=setup.autocast,
            settings=setup.sampling.vllm,
            log=setup.folder / "vllm.log" if setup.folder else None,
            is_main=setup.is_main,
            run=setup.run,
            is_overlapped=setup.sampling.max_staleness > 0,
            say=setup.say,
        )

    @classmethod
    def is_preferred(cls, sampling: Any) -> bool:
        """Where servers are named, or vLLM is installed beside a GPU."""
        return bool(sampling.vllm.servers) or (
            importlib.util.find_spec("vllm") is not None and torch.cuda.is_available()
        )

    @classmethod
    def require(cls, sampling: Any, place: Callable[..., str]) -> None:
        """Raise ConfigError for batches ahead of a colocated engine and for truncated sampling."""
        if sampling.max_staleness and deployment_of(sampling.vllm) == "colocated":
            raise ConfigError(
                "a colocated engine sleeps while the trainer computes: nothing can be sampled ahead",
                place=place("max_staleness"),
                allowed="0, or policy.vllm.deployment=server",
            )
        truncated = {"top_p": sampling.top_p < 1, "top_k": sampling.top_k > 0, "min_p": sampling.min_p > 0}
        for setting in (name for name, is_on in truncated.items() if is_on):
            raise ConfigError(
                f"policy.{setting} cuts off a part of the distribution: the vllm sampler's log-probs are then of "
                "what is left, the trainer's of the whole, and their ratio would be biased at every token",
                place=place(setting),
                allowed="top_p: 1, top_k: 0, min_p: 0",
                next_step="use policy.temperature, or sample with policy.engine=local",
            )

    @classmethod
    def summary(cls, sampling: Any) -> str:
        """Where vLLM runs, how weights come, and how far it samples ahead."""
        where = ", ".join(sampling.vllm.servers) or f"deployment {sampling.vllm.deployment}"
        ahead = f", {sampling.max_staleness} batches ahead" if sampling.max_staleness else ""
        return f"vllm: {where}, weights by {sampling.vllm.sync}{ahead}"

    @classmethod
    def missing(cls, sampling: Any) -> list[str]:
        """vLLM itself, unless servers that take files or adapters do the work."""
        settings = sampling.vllm
        if settings.servers and settings.deployment != "colocated" and settings.sync != "nccl":
            return []
        return [] if importlib.util.find_spec("vllm") else ["the package vllm is not installed"]

    def generate(self, requests: Sequence[Request]) -> list[list[Rollout]]:
        """The n rollouts of each request. See Policy for what they hold."""
        for request in requests:
            check_request(request)
        return self.backend.generate(requests, self.version) if requests else []

    def sync(self, state: nn.Module | Mapping[str, Tensor] | None, version: int) -> None:
        """Give vLLM the model's weights, and prove by a fixed text that it computes with them."""
        if not isinstance(state, nn.Module):
            raise InputError("the vllm policy was given no model to take the weights from", allowed="the trained model")
        self.backend.sync(state, version)
        self.version = version

    def generate_beside(
        self, requests: Sequence[Request], models: Iterable[nn.Module], version: int
    ) -> list[list[list[Rollout]]]:
        """As in Policy; adapters are served side by side, and all their requests are one batch."""
        if isinstance(self.backend, Served) and self.backend.holds_several and requests:
            for request in requests:
                check_request(request)
            return self.backend.generate_beside(requests, models, version)
        return super().generate_beside(requests, models, version)

    def close(self) -> None:
        """End what was started here."""
        self.backend.close()

    def _built(
        self,
        model: Any,
        model_path: str,
        trainer: Trainer,
        log: Path | None,
        is_main: bool,
        run: str | None,
        is_overlapped: bool,
    ) -> Backend:
        if self.deployment == "colocated":
            module = importlib.import_module("rl.policies._vllm.colocated")  # imports vLLM, which servers do not need
            return module.Colocated(model_path, self.settings, trainer, dtype=self.dtype, say=self.say)
        folder = Path(self.settings.weights_dir) if self.settings.weights_dir else None
        route = ROUTES[self.route](folder, getattr(torch, self.dtype), run, is_overlapped=is_overlapped)
        key = os.environ.get(self.settings.api_key_env) or None
        own = None
        if not self.settings.servers and is_main:
            rank = max((config.r for config in model.peft_config.values()), default=0) if is_adapted(model) else 0
            command = serving_command(model_path, self.settings, dtype=self.dtype, adapter_rank=rank)
            own = OwnServer(command, self.settings, log, self.say)
            self.say(f"starting vLLM at {own.url}" + (f", its log is {log}" if log else ""))
            own.start()
        urls = self.settings.servers or (f"http://{self.settings.host}:{self.settings.port}",)
        try:
            served = Served(urls, self.settings, trainer, route, key=key, own=own, is_pusher=is_main, say=self.say)
        except BaseException:
            route.close()
            if own is not None:
                own.stop()
            raise
        self.say(f"vLLM at {', '.join(urls)}: {self.dtype}, weights by {route.name}")
        return served


def serving_command(model_path: str, settings: VllmConfig, *, dtype: str, adapter_rank: int = 0) -> Command:
    """The command of a server that a run can sample from and give its weights to.

    dtype: the trainer's computing precision, where the settings leave it open. adapter_rank: of the trained
    adapters, 0 without.
    """
    route = route_of(settings, "server", has_adapters=adapter_rank > 0)
    return server_command(
        model_path,
        settings,
        dtype=dtype if settings.dtype == "auto" else settings.dtype,
        lora_rank=adapter_rank if route == "lora" else 0,
        route=route,
        devices=own_devices(settings),
    )


def own_devices(settings: VllmConfig) -> str:
    """CUDA_VISIBLE_DEVICES for a server of our own: the last GPUs where there are more than it needs, so that the
    first stays the trainer's; an empty string leaves the variable alone."""
    count, needed = torch.cuda.device_count(), settings.tensor_parallel * settings.data_parallel
    if count <= needed:
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return ",".join((visible.split(",") if visible else [str(i) for i in range(count)])[-needed:])


def deployment_of(settings: VllmConfig) -> str:
    """The deployment that the settings mean on this machine."""
    if settings.deployment != "auto":
        if settings.deployment == "colocated" and settings.servers:
            raise ConfigError(
                "policy.vllm.servers are named, and policy.vllm.deployment is colocated",
                place="policy.vllm.deployment",
                allowed="server or auto",
            )
        return settings.deployment
    return "server" if settings.servers or not torch.cuda.is_available() else "colocated"


def route_of(settings: VllmConfig, deployment: str, *, has_adapters: bool) -> str:
    """The way of the weights that the settings mean. Raises ConfigError for one that the deployment has not."""
    if deployment == "colocated":
        allowed, automatic = ["inprocess"], "inprocess"
    else:
        # NCCL does not join two ranks on one GPU, so a server of our own needs another one.
        has_gpu = bool(own_devices(settings)) or bool(settings.servers and torch.cuda.is_available())
        can_broadcast = has_gpu and importlib.util.find_spec("vllm") is not None
        allowed = ["file", *(["lora"] if has_adapters else []), *(["nccl"] if can_broadcast else [])]
        automatic = "lora" if has_adapters else "nccl" if can_broadcast else "file"
    if settings.sync == "auto":
        return automatic
    if settings.sync not in allowed:
        raise ConfigError(
            f"weights cannot go by '{settings.sync}' here: the deployment is {deployment}, the model has "
            f"{'' if has_adapters else 'no '}adapters, CUDA is {'' if torch.cuda.is_available() else 'not '}available",
            place="policy.vllm.sync",
            allowed=", ".join(["auto", *allowed]),
        )
    return settings.sync


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


POLICY = VllmPolicy
