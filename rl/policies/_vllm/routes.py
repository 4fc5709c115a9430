"""The ways of weights into a vLLM server. Each keeps what it last prepared, to give it to a restarted server.

file   a safetensors file on a path that both see, through vLLM's official update endpoints
lora   a directory a version, loaded as a new adapter; the served weights stay as they are
nccl   broadcast from the trainer's GPU, by vLLM's own trainer engine
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from engine.errors import ConfigError
from rl.policies._vllm.endpoint import PAUSE, Endpoint, Refused, ServerGone
from rl.policies._vllm.weights import named_weights, weight_shapes, write_weights


class Route(ABC):
    """One way. `prepare` takes a version from the model; `push` gives it to a server, as often as needed.

    run: what tells this run's versions from others'; the same in all of its processes. is_overlapped: whether the
    model may have moved on when a version is pushed (again).
    """

    name: str

    def __init__(
        self, folder: Path | None, dtype: torch.dtype, run: str | None = None, *, is_overlapped: bool = False
    ) -> None:
        self.is_overlapped = is_overlapped
        self.dtype, self.run = dtype, run or secrets.token_hex(4)
        self.is_own_folder = folder is None
        self.folder = folder / f"run-{self.run}" if folder else Path(tempfile.mkdtemp(prefix="engine-weights-"))
        self.version = -1

    @property
    def tag(self) -> str:
        """The prepared version's name; other runs use other names."""
        return f"{self.run}-{self.version}"

    @abstractmethod
    def prepare(self, model: Any, version: int) -> None:
        """Take the model's weights as number `version`."""

    @abstractmethod
    def push(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Give the prepared version to a server. Raises ServerGone, Refused, and ConfigError for weights that do
        not fit, in which case nothing of the server was touched."""

    def is_current(self, endpoint: Endpoint) -> bool:
        """Whether the server samples from the prepared version."""
        return endpoint.version() == self.tag

    def served_name(self, base: str) -> str:
        """The model name that requests give."""
        return base

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class FileRoute(Route):
    """All weights as one file a version; the previous one is removed."""

    name = "file"

    def prepare(self, model: Any, version: int) -> None:
        old = list(self.folder.glob("weights-*.safetensors")) if self.folder.exists() else []
        self.shapes, self.version = weight_shapes(model), version
        self.path = write_weights(model, self.dtype, self.folder / f"weights-{version:06d}.safetensors")
        for path in old:
            if path != self.path:
                path.unlink()

    def push(self, endpoint: Endpoint, timeout_s: float) -> None:
        require_fitting(endpoint, self.shapes, timeout_s)
        endpoint.load_file(str(self.path), self.tag, timeout_s)


class LoraRoute(Route):
    """Adapters under a new name each time: vLLM keys its caches by it, so nothing old is ever used."""

    name = "lora"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loaded: dict[str, str] = {}
        self.beside: list[str] = []
        """Names of further adapters, which a server is to hold as well."""

    def prepare(self, model: Any, version: int) -> None:
        self.version = version
        model.save_pretrained(self.folder / self.tag)
        for path in self.folder.iterdir():
            if path.name != self.tag:
                shutil.rmtree(path)

    def put_beside(self, model: Any, version: int) -> str:
        """Take the model's adapter, to be pushed beside the prepared one; its name."""
        name = f"{self.run}-beside-{version}"
        model.save_pretrained(self.folder / name)
        self.beside.append(name)
        return name

    def clear_beside(self, endpoints: Iterable[Endpoint], timeout_s: float) -> None:
        """Have the servers forget the adapters that were put beside the prepared one."""
        for endpoint in endpoints:
            for name in self.beside:
                with contextlib.suppress(Refused, ServerGone):  # one that does not have it, or is not there
                    endpoint.unload_adapter(name, timeout_s)
        for name in self.beside:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.beside = []

    def push(self, endpoint: Endpoint, timeout_s: float) -> None:
        for name in self._missing(endpoint):
            endpoint.load_adapter(name, str(self.folder / name), timeout_s)
        old = self._loaded.get(endpoint.url)
        self._loaded[endpoint.url] = self.tag
        if old and old != self.tag:
            with contextlib.suppress(Refused):  # a restarted server does not have it
                endpoint.unload_adapter(old, timeout_s)

    def is_current(self, endpoint: Endpoint) -> bool:
        return not self._missing(endpoint)

    def _missing(self, endpoint: Endpoint) -> list[str]:
        """The adapters that the server is to hold and does not."""
        held = {model["id"] for model in endpoint.models()}
        return [name for name in (self.tag, *self.beside) if name not in held]

    def served_name(self, base: str) -> str:
        return self.tag


class NcclRoute(Route):
    """Broadcast over NCCL. Weights are read from the model at every push, or from a copy on its device where the
    model may have moved on by then."""

    name = "nccl"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._engines: dict[str, Any] = {}
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nccl-weights")

    def prepare(self, model: Any, version: int) -> None:
        self.version, self.shapes = version, weight_shapes(model)
        if self.is_overlapped:
            copies = [(name, weight.clone()) for name, weight in named_weights(model, self.dtype)]
            self.weights: Callable[[], Iterable[tuple[str, Tensor]]] = lambda: copies
        else:
            self.weights = lambda: named_weights(model, self.dtype)

    def push(self, endpoint: Endpoint, timeout_s: float) -> None:
        if endpoint.version() == "default":  # started anew: its group is gone
            self._engines.pop(endpoint.url, None)
        require_fitting(endpoint, self.shapes, timeout_s)
        work = self._threads.submit(self._send, endpoint, timeout_s)
        try:
            work.result(timeout_s)
        except Late:
            raise ServerGone(f"{endpoint.url}: the broadcast did not finish within {timeout_s:g} s") from None
        except (RuntimeError, OSError) as error:
            raise Refused(500, f"the broadcast failed: {error}") from error

    def _send(self, endpoint: Endpoint, timeout_s: float) -> None:
        endpoint.post(PAUSE, None, timeout_s)
        engine = self._engines.get(endpoint.url)
        if engine is None:
            engine = self._engines[endpoint.url] = self._joined(endpoint, timeout_s)
        engine.send_weights()
        endpoint.post("/collective_rpc", {"method": "engine_tie_head"}, timeout_s)
        endpoint.post("/update_weight_version", {"new_version": self.tag}, timeout_s)
        endpoint.reset_cache(timeout_s)
        endpoint.post("/resume", None, timeout_s)

    def _joined(self, endpoint: Endpoint, timeout_s: float) -> Any:
        """The trainer's end of a group with the server's workers."""
        from vllm.distributed.weight_transfer.clients import HTTPVLLMWeightSyncClient
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

        world = int(endpoint.get("/get_world_size", timeout_s)["world_size"])
        address, port = _own_address(endpoint.url)
        info = NCCLTrainerInitInfo(master_address=address, master_port=port, world_size=world + 1, rank=0)
        client = HTTPVLLMWeightSyncClient(endpoint.url, timeout=timeout_s)
        return NCCLTrainerWeightTransferEngine.trainer_init(info, client=client, source=_source(self))

    def close(self) -> None:
        for engine in self._engines.values():
            engine.shutdown()
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()


ROUTES: dict[str, type[Route]] = {route.name: route for route in (FileRoute, LoraRoute, NcclRoute)}


def require_fitting(endpoint: Endpoint, shapes: dict[str, list[int]], timeout_s: float) -> None:
    """Raise ConfigError where the served model cannot take weights of these shapes."""
    faults = endpoint.weight_faults(shapes, timeout_s)  # type: ignore[arg-type]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise ConfigError(
            f"the served model is another than the trained one: {'; '.join(faults[:3])}{more}",
            place=endpoint.url,
            next_step="serve the model that model.name names: `engine policy serve CONFIG`",
        )


def _source(route: NcclRoute) -> Any:
    """The route's weights as vLLM's WeightSource."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class Weights(WeightSource):  # type: ignore[misc]
        def metadata(self) -> list[Any]:
            return [ParamMeta(name, route.dtype, tuple(shape)) for name, shape in route.shapes.items()]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return iter(route.weights())

    return Weights()


def _own_address(url: str) -> tuple[str, int]:
    """The address by which that server reaches this machine, and a free port."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname or "127.0.0.1", parts.port or 80))
        address = probe.getsockname()[0]
    with socket.socket() as probe:
        probe.bind((address, 0))
        return address, probe.getsockname()[1]
