"""Models from the hub, without minutes of retries where there is none."""

from __future__ import annotations

import importlib
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import EnvironmentMissing, LLMUnavailable

FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]
IGNORED = ["onnx/*", "openvino/*", "runs/*"]
PATIENCE_S = 5.0


def snapshot(repo: str, say: Callable[[str], None], into: Path | None = None) -> Path:
    """The folder with a hub model's weights, config and tokenizer, from the hub's cache if it is there.

    into: put the files into this folder instead of the hub's cache. Raises EnvironmentMissing when the
    hub cannot be reached or huggingface_hub is not installed, LLMUnavailable when there is no such model.
    """
    hub = _package()
    if into is None and (cached := _cached(hub, repo)):
        return cached
    if hub.constants.HF_HUB_OFFLINE:
        raise EnvironmentMissing("not asked, HF_HUB_OFFLINE is set", place=repo, next_step="unset HF_HUB_OFFLINE")
    if not is_reachable(hub.constants.ENDPOINT):
        raise EnvironmentMissing(
            f"{hub.constants.ENDPOINT} cannot be reached",
            place=repo,
            next_step="connect once, give a folder that holds the model, or use smollm2-135m",
        )
    say(f"fetching {repo} from the hub")
    try:
        found = hub.snapshot_download(repo, local_dir=into, allow_patterns=FILES, ignore_patterns=IGNORED)
    except hub.errors.HfHubHTTPError as error:
        failure = _explained(repo, error)
    except OSError as error:
        failure = EnvironmentMissing(f"the download broke: {error!s:.200}", place=repo, next_step="try again")
    else:
        return Path(found)
    raise failure


def is_reachable(endpoint: str, patience_s: float = PATIENCE_S) -> bool:
    """Whether the hub answers at all, by the proxies of the environment, within the patience."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=patience_s).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return
        answered.set()

    # In a thread, since looking up a name has no timeout of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience_s)
    return answered.is_set()


def _package() -> Any:
    try:
        for part in ("constants", "errors"):
            importlib.import_module(f"huggingface_hub.{part}")
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise EnvironmentMissing(
            "the package huggingface_hub is not installed", next_step="pip install 'trace-engine[rl]'"
        ) from None


def _cached(hub: Any, repo: str) -> Path | None:
    """The model in the hub's own cache, if its weights are there."""
    try:
        folder = Path(hub.snapshot_download(repo, local_files_only=True, allow_patterns=FILES, ignore_patterns=IGNORED))
    except (OSError, ValueError):
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def _explained(repo: str, error: Any) -> EnvironmentMissing:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403, 404):
        return LLMUnavailable(
            f"the hub has no model '{repo}', or it is gated (status {status})",
            place=repo,
            next_step="correct the id, or log in with `hf auth login` and accept the model's terms",
        )
    return EnvironmentMissing(f"the hub answered with status {status}", place=repo, next_step="try again later")
