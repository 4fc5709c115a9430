"""Policies: who samples the completions.

`resolve("auto")` takes the policy that is preferred on this machine, else the in-process one. Adding a policy means
one file here that binds POLICY.
"""

from __future__ import annotations

from typing import Any

from engine.errors import EnvironmentMissing, UnknownName
from engine.registry import Registry
from rl.policies._prompts import encode_prompt
from rl.policies.base import Policy, Setup, check_request

__all__ = ["DEFAULT", "POLICIES", "Policy", "Setup", "check_request", "encode_prompt", "load", "names", "resolve"]

POLICIES = Registry("policy engine", package="rl.policies", group="engine.policies", attribute="POLICY")

DEFAULT = "local"


def names() -> list[str]:
    """The policy engines that this installation has."""
    return POLICIES.names()


def load(name: str, *, place: str | None = None) -> type[Policy]:
    """The policy's class. Raises UnknownName."""
    found: type[Policy] = POLICIES.load(name, place=place)
    return found


def resolve(sampling: Any, *, place: str | None = None) -> str:
    """The name of the policy that the config's `policy:` section means on this machine.

    Raises UnknownName for an engine that is not there, and EnvironmentMissing, naming what is missing, for one
    that cannot run here. place: where it was set, for the message.
    """
    engine = sampling.engine
    if engine == "auto":
        return next((name for name in names() if load(name).is_preferred(sampling)), DEFAULT)
    if engine not in names():
        raise UnknownName(POLICIES.kind, engine, names(), place=place)
    if missing := load(engine).missing(sampling):
        raise EnvironmentMissing(
            f"policy.engine={engine} cannot run here: {'; '.join(missing)}",
            place=place,
            next_step=f"set policy.engine={DEFAULT}, which samples in this process",
        )
    return engine
