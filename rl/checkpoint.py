"""Checkpoints that are whole or not there.

A checkpoint is a folder `step-000010`: a model in Hugging Face format on top, our state in `state/`,
and `manifest.json` with the SHA-256 of every file. It is written under a temporary name, flushed to
the disk and renamed, so a kill at any moment leaves the previous one. Nothing is pickled: tensors are
safetensors, the rest is JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import CheckpointError

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state"


@dataclass
class State:
    """What a run must know to go on, beyond the model: named tensors and a JSON record."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


def write(folder: Path, step: int, save_model: Callable[[Path], None], state: State, *, keep: int) -> Path:
    """Save one checkpoint under `folder`, drop all but the newest `keep`, return its path.

    save_model: writes the model's own files into the path that it is given.
    Raises CheckpointError when the disk refuses (the previous checkpoints stay as they are).
    """
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)
    final = folder / f"step-{step:06d}"
    draft = folder / f".writing-{final.name}"
    try:
        draft.mkdir()
        save_model(draft)
        _write_state(draft / STATE, state)
        _write_manifest(draft, step)
        _flush(draft)
        if final.exists():  # a damaged one that this run went past
            _discard(final)
        draft.rename(final)
        _fsync(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the checkpoint: {error.strerror or error}",
            place=str(final),
            next_step="free some space or set trainer.keep lower, then go on with --resume",
        ) from error
    prune(folder, keep)
    return final


def read_state(path: Path) -> State:
    """The state of a sound checkpoint."""
    record = json.loads((path / STATE / "record.json").read_text(encoding="utf-8"))
    return State(load_file(path / STATE / "tensors.safetensors"), record)


def steps(folder: Path) -> list[Path]:
    """The checkpoints under a folder, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir() and p.name[5:].isdigit())


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def faults(path: Path) -> list[str]:
    """What is wrong with a checkpoint, a line a file; empty when every byte is as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        recorded = manifest.pop("digest")
        files = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST}: {type(error).__name__}"]
    if recorded != _digest_of(manifest):
        return [f"{MANIFEST}: its own digest does not match"]
    if manifest["format"] != FORMAT:
        return [f"{MANIFEST}: format {manifest['format']}, this version reads {FORMAT}"]
    return [fault for name, entry in files.items() if (fault := _file_fault(path / name, name, entry))]


def newest_sound(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint without a fault, or None where there is none at all.

    Each damaged one on the way is named to `warn`. Raises CheckpointError when all are damaged.
    """
    found = steps(folder)
    for path in reversed(found):
        wrong = faults(path)
        if not wrong:
            return path
        warn(f"{path}: damaged, skipped ({'; '.join(wrong)})")
    if found:
        raise CheckpointError(
            f"none of the {len(found)} checkpoints is sound",
            place=str(folder),
            next_step="restore one from a copy, or start a new run",
        )
    return None


def require_sound(path: Path) -> Path:
    """The path itself, if it is a sound checkpoint. Raises CheckpointError naming every fault."""
    wrong = faults(path)
    if wrong:
        raise CheckpointError(f"damaged: {'; '.join(wrong)}", place=str(path), next_step="use another checkpoint")
    return path


def prune(folder: Path, keep: int) -> None:
    """Drop all but the newest `keep` checkpoints."""
    for path in steps(folder)[:-keep]:
        _discard(path)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed save or removal left behind."""
    for leftover in (*folder.glob(".writing-*"), *folder.glob(".discarded-*")):
        shutil.rmtree(leftover)


def _discard(path: Path) -> None:
    """Remove a checkpoint; renamed first, so that a kill leaves no half of it under its name."""
    trash = path.with_name(f".discarded-{path.name}")
    path.rename(trash)
    shutil.rmtree(trash)


def _write_state(folder: Path, state: State) -> None:
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, folder / "tensors.safetensors")
    text = json.dumps(state.record, indent=1, allow_nan=False)
    (folder / "record.json").write_text(text, encoding="utf-8")


def _write_manifest(folder: Path, step: int) -> None:
    files = {p.relative_to(folder).as_posix(): _entry(p) for p in _files(folder)}
    manifest = {"format": FORMAT, "step": step, "files": files}
    text = json.dumps(manifest | {"digest": _digest_of(manifest)}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file())


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _file_fault(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    try:
        found = _entry(path)
    except OSError as error:
        return f"{name}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}"
    if found["bytes"] != entry["bytes"]:
        return f"{name}: {found['bytes']} bytes instead of {entry['bytes']}"
    return None if found["sha256"] == entry["sha256"] else f"{name}: its content changed"


def _digest_of(manifest: Mapping[str, Any]) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _flush(folder: Path) -> None:
    """Everything in the folder, and the folders themselves, on the disk."""
    for path in (*_files(folder), *(p for p in folder.rglob("*") if p.is_dir()), folder):
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
