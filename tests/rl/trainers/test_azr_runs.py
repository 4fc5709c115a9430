"""Self-play through the trainer, with a tiny model: what a run records, and what its control leaves of the rewards."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rl
from rl import checkpoint
from rl.methods.azr import METHOD, AzrConfig
from rl.trainers.online import OnlineTrainer
from rl.types import Group, Prompt, Rollout


def test_a_run_grows_its_buffers_and_tells_what_was_proposed(self_play: dict[str, Any], tmp_path: Path) -> None:
    run = rl.train(self_play, run_dir=tmp_path / "run", is_quiet=True)
    rows = [row for row in run.metrics if "azr/valid" in row]
    assert len(rows) == 6
    assert any(row["azr/new"] > 0 for row in rows)  # as the model was taught
    for row in rows:
        refused = sum(value for name, value in row.items() if name.startswith("azr/refused/"))
        assert row["azr/proposals"] == row["azr/count/propose/deduction"] + row["azr/count/propose/abduction"] == 8
        assert row["azr/valid"] == pytest.approx(1 - refused / 8)
        assert row["azr/new"] + row["azr/duplicates"] == 8 - refused
    sizes = [row["azr/buffer/deduction"] + row["azr/buffer/abduction"] for row in rows]
    assert sizes[0] == 8 + rows[0]["azr/new"]
    # Two updates a batch: every second row is of the batch before.
    assert sizes[2] == sizes[0] + rows[2]["azr/new"] and sizes[1] == sizes[0] and sizes[3] == sizes[2]
    assert any(row["azr/learnability"] > 0 for row in rows) and any(row["grad_norm"] > 0 for row in rows)
    saved = checkpoint.read_state(run.path / "checkpoints" / "step-000006").record["source"]["buffers"]
    assert sum(len(saved[task]) for task in ("deduction", "abduction")) == sizes[5]
    assert run.evaluation.keys() == {"train", "held_out"}
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {sample["id"].partition("-")[0] for sample in samples} == {"propose", "solve"}


def test_the_control_shuffles_rewards_within_each_cell() -> None:
    """Whitening compares all groups of a cell: rewards shuffled within a group would still praise easy tasks."""
    rewards = {"a": [1.0, 0.0, 0.0, 0.0], "b": [1.0, 1.0, 1.0, 0.0], "c": [-1.0, -0.5, -0.25, 7.0]}
    groups = [
        Group(
            Prompt(name, name),
            (1,),
            [Rollout((2,), (0.0,), "", "stop")] * 4,
            list(values),
            meta={"cell": "propose/deduction" if name == "c" else "solve/deduction"},
        )
        for name, values in rewards.items()
    ]
    experiment = SimpleNamespace(config=SimpleNamespace(seed=0))
    moved = 0
    for window in range(20):
        trainer = SimpleNamespace(prepared=SimpleNamespace(experiment=experiment), windows=window)
        for group in groups:
            group.rewards = list(rewards[group.prompt.id])
        OnlineTrainer._shuffle(trainer, groups)  # type: ignore[arg-type]
        assert sorted(groups[0].rewards + groups[1].rewards) == [0.0] * 4 + [1.0] * 4
        assert sorted(groups[2].rewards) == [-1.0, -0.5, -0.25, 7.0]
        moved += sum(groups[0].rewards) != 1.0  # type: ignore[arg-type]
    assert moved >= 8  # of 20; by the hypergeometric law 16 of 70 leave it at 1, so 15 are expected
    assert METHOD(AzrConfig()).advantages(groups).shape == (3, 4)
