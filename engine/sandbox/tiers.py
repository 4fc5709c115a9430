"""Which tiers there are, and which of them works on this machine."""

from __future__ import annotations

import sys

from engine.errors import SandboxUnavailable
from engine.sandbox import selftest
from engine.sandbox.spawn import bubblewrap, launch
from engine.sandbox.worker import StartFailed, Worker

__all__ = ["AUTOMATIC", "TIERS", "first_worker", "new_worker", "reasons"]

TIERS = ("namespaces", "process", "unsafe")
AUTOMATIC = ("namespaces", "process")  # what "auto" tries, in this order

_passed: set[str] = set()  # the tiers whose self-test this process has seen to hold
_reasons: dict[str, str] = {}  # why a tier is not to be had, so that it is tried once


def reasons() -> dict[str, str]:
    """Why each tier that was tried in vain does not work here."""
    return dict(_reasons)


def first_worker(requested: str, hash_seed: int) -> tuple[str, Worker]:
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


def new_worker(tier: str, hash_seed: int) -> Worker:
    """One more worker of a tier that works; raises SandboxUnavailable if it no longer does."""
    try:
        return _tested(tier, hash_seed)
    except StartFailed as error:
        raise SandboxUnavailable(f"the sandbox's tier '{tier}' no longer starts: {error}") from None


def _tested(tier: str, hash_seed: int) -> Worker:
    if tier != "unsafe" and not sys.platform.startswith("linux"):
        raise StartFailed(f"it needs Linux, and this is {sys.platform}")
    if tier == "namespaces" and bubblewrap() is None:
        raise StartFailed("bubblewrap is not installed")
    try:
        worker = Worker(launch(tier, hash_seed))
    except (OSError, ValueError) as error:
        raise StartFailed(str(error)) from None
    if tier not in _passed and tier != "unsafe":
        try:
            selftest.check(worker)
        except BaseException:
            worker.close()
            raise
        _passed.add(tier)
    return worker


def _next_step() -> str:
    if not sys.platform.startswith("linux"):
        return "run this on Linux, in a container for instance"
    return (
        "install bubblewrap (pip install 'trace-engine[sandbox]', or apt install bubblewrap) and allow user "
        "namespaces, or use a kernel with seccomp; `engine doctor` says what works. ENGINE_SANDBOX=unsafe runs "
        "without any protection"
    )
