"""Checkpoints: whole or not there, and no damage goes unseen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointError
from rl import checkpoint
from rl.checkpoint import State


def save(folder: Path, step: int, *, keep: int = 3) -> Path:
    state = State({"a/exp_avg": torch.arange(6.0).reshape(2, 3) + step}, {"step": step, "note": "ä"})
    return checkpoint.write(folder, step, lambda path: write_model(path, step), state, keep=keep)


def write_model(path: Path, step: int) -> None:
    (path / "model.safetensors").write_bytes(bytes(range(256)) * 40 + bytes([step]))
    (path / "config.json").write_text("{}", encoding="utf-8")


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    state = checkpoint.read_state(path)
    assert path.name == "step-000003"
    assert checkpoint.faults(path) == []
    assert state.record == {"step": 3, "note": "ä"}
    assert torch.equal(state.tensors["a/exp_avg"], torch.tensor([[3.0, 4, 5], [6, 7, 8]]))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003", "step-000010"]


FILES = ["model.safetensors", "config.json", "state/tensors.safetensors", "state/record.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_named_and_skipped(tmp_path: Path, name: str, damage: str) -> None:
    sound, damaged = save(tmp_path, 1), save(tmp_path, 2)
    hurt(damaged / name, damage)
    warnings: list[str] = []
    assert checkpoint.newest_sound(tmp_path, warnings.append) == sound
    assert len(warnings) == 1
    assert str(damaged) in warnings[0] and name in warnings[0]
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.require_sound(damaged)


def hurt(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        digits = content.rfind(b"1") if path.name == "manifest.json" else len(content) // 2
        content[digits] ^= 1  # one bit
        path.write_bytes(content)
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else b"")


def test_every_single_flipped_bit_of_a_manifest_is_harmless_or_seen(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    original = manifest.read_bytes()
    data = json.loads(original)
    for place in range(len(original)):
        flipped = bytearray(original)
        flipped[place] ^= 1
        manifest.write_bytes(flipped)
        try:
            is_same = json.loads(flipped) == data
        except ValueError:
            is_same = False
        assert bool(checkpoint.faults(path)) != is_same


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    for step in (1, 2):
        hurt(save(tmp_path, step) / "config.json", "empty")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints is sound"):
        checkpoint.newest_sound(tmp_path, lambda _: None)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest_sound(tmp_path / "absent", lambda _: None) is None


def test_a_save_that_breaks_off_leaves_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = save(tmp_path, 1)
    syncs = iter([None, None])

    def full(descriptor: int) -> None:
        if next(syncs, "full") == "full":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(tmp_path, 2)
    assert checkpoint.newest_sound(tmp_path, pytest.fail) == sound
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]


def test_leftovers_of_a_kill_are_neither_found_nor_in_the_way(tmp_path: Path) -> None:
    for name in (".writing-step-000002", ".discarded-step-000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    assert checkpoint.steps(tmp_path) == []
    assert save(tmp_path, 2).name == "step-000002"
    assert [p.name for p in tmp_path.iterdir()] == ["step-000002"]


def test_a_step_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    hurt(save(tmp_path, 2) / "config.json", "empty")
    assert checkpoint.faults(save(tmp_path, 2)) == []
