"""Which tiers there are, and which of them works on this machine."""

from __future__ import annotations

import subprocess
import sys

from engine.errors import SandboxUnavailable
from engine.sandbox import selftest
from engine.sandbox.monty import MontyRunner
from engine.sandbox.runner import Runner, StartFailed
from engine.sandbox.spawn import bubblewrap, launch
from engine.sandbox.worker import Worker

__all__ = ["AUTOMATIC", "TIERS", "first_worker", "forget", "new_worker", "reasons"]

TIERS = ("namespaces", "process", "monty", "unsafe")
AUTOMATIC = ("namespaces", "process", "monty")  # what "auto" tries, in this order

_passed: set[str] = set()  # the tiers whose self-test this process has seen to hold
_reasons: dict[str, str] = {}  # why a tier is not to be had, so that it is tried once


def reasons() -> dict[str, str]:
    """Why each tier that was tried in vain does not work here."""
    return dict(_reasons)


def forget() -> None:
    """Try and test every tier anew when it is next asked for: bubblewrap was installed, or a benchmark starts cold."""
    _passed.clear()
    _reasons.clear()


def first_worker(requested: str, hash_seed: int) -> tuple[str, Runner]:
    """The tier to use and a worker of it, tested; raises SandboxUnavailable. A named tier never becomes another."""
    wanted = AUTOMATIC if requested == "auto" else (requested,)
    for tier in wanted:
        if requested == "auto" and tier in _reasons:
            continue
        try:
            return tier, _tested(tier, hash_seed)
        except StartFailed as error:
            _reasons[tier] = str(error)
    why = "; ".join(f"{tier}: {_reasons[tier]}" for tier in wanted)
    raise SandboxUnavailable(f"nothing here may run the code of a model ({why})", next_step=_next_step())


def new_worker(tier: str, hash_seed: int) -> Runner:
    """One more worker of a tier that works; raises SandboxUnavailable if it no longer does."""
    try:
        return _tested(tier, hash_seed)
    except StartFailed as error:
        raise SandboxUnavailable(f"the sandbox's tier '{tier}' no longer starts: {error}") from None


def _tested(tier: str, hash_seed: int) -> Runner:
    worker = _started(tier, hash_seed)
    if tier not in _passed and tier != "unsafe":
        try:
            selftest.check(worker)
        except BaseException:
            worker.close()
            raise
        _passed.add(tier)
    return worker


def _started(tier: str, hash_seed: int) -> Runner:
    if tier == "monty":
        return MontyRunner()
    if tier != "unsafe" and not sys.platform.startswith("linux"):
        raise StartFailed(f"it needs Linux, and this is {sys.platform}")
    if tier == "namespaces" and bubblewrap() is None:
        raise StartFailed("bubblewrap is not installed")
    try:
        return Worker(launch(tier, hash_seed))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise StartFailed(str(error)) from None


def _next_step() -> str:
    if not sys.platform.startswith("linux"):
        return "run this on Linux, in a container for instance, or pip install 'trace-engine[monty]'"
    return (
        "install bubblewrap (pip install 'trace-engine[sandbox]', or apt install bubblewrap) and allow user "
        "namespaces, or use a kernel with seccomp; `engine doctor` says what works. ENGINE_SANDBOX=unsafe runs "
        "without any protection"
    )
