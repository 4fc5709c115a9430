"""Policies: who samples the completions.

`choose("auto", ...)` takes vLLM where it is installed beside a GPU, or its servers are named, and the in-process
policy otherwise. Adding a
policy means one file here that binds POLICY.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from engine.errors import EnvironmentMissing, UnknownName
from engine.registry import Registry
from rl.lazy import torch
from rl.policies._prompts import encode_prompt
from rl.policies._vllm.settings import VllmConfig
from rl.policies.base import Policy, check_request

__all__ = ["POLICIES", "Policy", "check_request", "choose", "encode_prompt", "names", "resolve"]

POLICIES = Registry("policy engine", package="rl.policies", group="engine.policies", attribute="POLICY")


def names() -> list[str]:
    """The policy engines that this installation has."""
    return POLICIES.names()


def resolve(engine: str = "auto", *, place: str | None = None, settings: VllmConfig | None = None) -> str:
    """The name of a policy that can run here; "auto" is vLLM where servers are named (in settings) or it is
    installed and a CUDA device is there, else local.

    Raises UnknownName for another name, and EnvironmentMissing, naming what is missing, for an
    engine that cannot run here. place: where the name was set, for the message.
    """
    if engine == "auto":
        return "vllm" if _suits_vllm(settings) else "local"
    if engine in names() and (missing := _missing(engine, settings)):
        raise EnvironmentMissing(
            f"policy.engine={engine} cannot run here: {'; '.join(missing)}",
            place=place,
            next_step="set policy.engine=local, which samples in this process",
        )
    if engine not in names():
        raise UnknownName(POLICIES.kind, engine, names(), place=place)
    return engine


def choose(engine: str = "auto", *, place: str | None = None, **options: Any) -> Policy:
    """The policy that `resolve` names, built with the options. Raises as resolve does."""
    name = resolve(engine, place=place, settings=options.get("settings"))
    policy: Policy = POLICIES.load(name, place=place)(**options)
    return policy


def _suits_vllm(settings: VllmConfig | None) -> bool:
    """Whether vLLM is the better sampler here."""
    if settings is not None and settings.servers:
        return True
    return importlib.util.find_spec("vllm") is not None and bool(torch.cuda.is_available())


def _missing(engine: str, settings: VllmConfig | None) -> list[str]:
    """What the engine needs and is not here."""
    policy = POLICIES.load(engine)
    return list(policy.missing(settings) if engine == "vllm" else policy.missing())
