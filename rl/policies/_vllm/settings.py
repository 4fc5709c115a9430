"""The `policy.vllm:` section of a config; loads neither torch nor vLLM."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from engine.config import Config


class VllmConfig(Config):
    """Where vLLM runs and how it gets the weights.

    `deployment`: `server`, the processes named in `servers` or, where none is named, one that the run starts and
    ends itself; `colocated`, vLLM in the trainer's own process; `auto`, servers where they are named, colocated on
    a GPU, else a server of our own.

    `sync`: `lora` loads the adapters as a new adapter of the server; `inprocess` loads tensors into the colocated
    engine; `nccl` broadcasts from GPU to GPU; `file` writes safetensors to `weights_dir`, which all servers must
    see under the same path, and needs nothing but that. `auto`: the first of these that the deployment can do.

    `model`: the served model's name, where a server has several. `api_key_env`: the environment variable that holds
    the servers' key. `dtype` auto: the trainer's computing precision. `tolerance`: the largest mean |difference|
    of log-probs after a sync; 1e-3 in float32 and 0.1 in bfloat16 by default. `memory_share`: of the GPU; 0.9 for
    a server and 0.3 for a colocated engine by default. `adapters`: how many LoRA adapters a server of our own computes
    with side by side (more take turns). `concurrency`: requests (of n completions each) in flight
    at one server. `arguments`: more arguments of `vllm serve` for a server of our own.

    `request_timeout_s`: for the n completions of a prompt. `sync_timeout_s`: for one push of weights to all
    servers. `start_timeout_s`: until a server of our own answers. `restart_timeout_s`: how long the run waits for a
    server that went away before it stops, resumable.
    """

    deployment: Literal["auto", "server", "colocated"] = "auto"
    servers: tuple[str, ...] = ()
    sync: Literal["auto", "nccl", "inprocess", "file", "lora"] = "auto"
    model: str | None = None
    api_key_env: str = "VLLM_API_KEY"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    tolerance: float | None = Field(default=None, gt=0)
    weights_dir: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    tensor_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    memory_share: float | None = Field(default=None, gt=0, le=1)
    adapters: int = Field(default=8, ge=2)
    context: int | None = Field(default=None, ge=1)
    arguments: tuple[str, ...] = ()
    concurrency: int = Field(default=256, ge=1)
    request_timeout_s: float = Field(default=600, gt=0)
    sync_timeout_s: float = Field(default=300, gt=0)
    start_timeout_s: float = Field(default=600, gt=0)
    restart_timeout_s: float = Field(default=600, gt=0)

    @field_validator("servers")
    @classmethod
    def _are_urls(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for url in servers:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is no address; allowed: http://HOST:PORT, without a path")
            if parts.path.strip("/"):
                raise ValueError(f"{url!r} has a path; allowed: http://HOST:PORT (the paths are vLLM's)")
        return tuple(url.rstrip("/") for url in servers)
