"""Policies: who samples the completions.

`choose("auto", ...)` takes vLLM where it can run and the in-process policy otherwise. Adding a
policy means one file here that binds POLICY.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from engine.errors import EnvironmentMissing, UnknownName
from engine.registry import Registry
from rl.policies._prompts import encode_prompt
from rl.policies.base import Policy, check_request

__all__ = ["POLICIES", "Policy", "check_request", "choose", "encode_prompt", "names", "resolve"]

POLICIES = Registry("policy engine", package="rl.policies", group="engine.policies", attribute="POLICY")


def names() -> list[str]:
    """The policy engines that this installation has."""
    return POLICIES.names()


def resolve(engine: str = "auto", *, place: str | None = None) -> str:
    """The name of a policy that can run here; "auto" is vLLM where it can, else local.

    Raises UnknownName for another name, and EnvironmentMissing, naming what is missing, for an
    engine that cannot run here. place: where the name was set, for the message.
    """
    if engine == "auto":
        return "local" if _missing("vllm") else "vllm"
    if engine in ("vllm", *names()) and (missing := _missing(engine)):
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
    policy: Policy = POLICIES.load(resolve(engine, place=place), place=place)(**options)
    return policy


def _missing(engine: str) -> list[str]:
    """What the engine needs and is not here."""
    reasons = []
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        reasons.append("the package vllm is not installed")
    if engine not in names():
        reasons.append(f"this version of trace-engine has no {engine} policy")
    return reasons or POLICIES.load(engine).missing()
