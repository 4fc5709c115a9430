"""`engine doctor`: what this machine has, and what is missing for which part."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import EnvironmentMissing, SandboxUnavailable
from engine.sandbox import Sandbox
from engine.sandbox.tiers import AUTOMATIC, reasons

__all__ = ["doctor"]

CORE = ("pydantic", "networkx", "openai", "typer", "rich", "ruamel.yaml")
RL = ("torch", "transformers", "accelerate", "peft", "trl", "datasets", "safetensors", "gguf")
EMBEDDED_MODEL = "smollm2-135m"
INSTALL_RL = "pip install 'trace-engine[rl]'"


class Finding(NamedTuple):
    """One row. `fine` is None for what is optional and not there."""

    name: str
    state: str
    fine: bool | None = True


def doctor() -> None:
    """Say what is installed, what is reachable, and what to do about what is not."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    findings = list(_findings())
    table = Table(box=None, pad_edge=False, show_header=False)
    marks = {True: Text("ok"), False: Text("needed", "red"), None: Text("optional", "dim")}
    for finding in findings:
        table.add_row(finding.name, marks[finding.fine], Text(finding.state))
    Console().print(table)
    bad = [finding.name for finding in findings if finding.fine is False]
    if bad:
        raise EnvironmentMissing(f"needed and not in order: {', '.join(bad)}", next_step="see the rows above")


def _findings() -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0.0
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("machine", f"{os.cpu_count()} cores, {memory:.0f} GiB of memory")
    for name in CORE:
        yield _package(name, fine=False, next_step="pip install trace-engine")
    for name in RL:
        yield _package(name, fine=None, next_step=INSTALL_RL)
    yield _cuda()
    yield _package("vllm", fine=None, next_step="pip install 'trace-engine[vllm]', on a machine with a GPU")
    yield _model()
    yield _sandbox()
    yield from _writable()
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        yield Finding(
            variable, "set" if os.environ.get(variable) else "not set", bool(os.environ.get(variable)) or None
        )


def _package(name: str, *, fine: bool | None, next_step: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"not installed: {next_step}", fine)


def _cuda() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("cuda", "unknown without torch", None)
    import torch

    if not torch.cuda.is_available():
        return Finding("cuda", "none: local sampling and training run on the CPU", None)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("cuda", f"{torch.version.cuda}: {', '.join(names)}")


def _model() -> Finding:
    from engine.llm.models import is_cached

    if is_cached(EMBEDDED_MODEL):
        return Finding(EMBEDDED_MODEL, "in the cache")
    return Finding(EMBEDDED_MODEL, f"not fetched: engine model pull {EMBEDDED_MODEL}", None)


def _sandbox() -> Finding:
    """The strongest tier that passes its self-test here, and why those before it do not."""
    with Sandbox(workers=1) as sandbox:
        try:
            tier = sandbox.tier
        except SandboxUnavailable as error:
            return Finding("sandbox", f"none: {error.message}. Next: {error.next_step}", None)
    why = "".join(f"; not {name}: {reason}" for name, reason in reasons().items() if name in AUTOMATIC)
    return Finding("sandbox", f"{tier}{why}")


def _writable() -> Iterator[Finding]:
    from engine.llm.models import home

    for name, folder in (("cache", home()), ("runs", Path("runs").absolute())):
        yield Finding(name, str(folder), _can_write(folder))


def _can_write(folder: Path) -> bool:
    """Whether a file can be made in the folder, or the folder itself in its nearest parent that exists."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False
