"""The reference run on the embedded model: addition is learnt from rewards, and not from shuffled ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import rl

CONFIG = Path(__file__).parents[3] / "configs" / "grpo.yaml"


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_addition_is_learnt(tmp_path: Path, seed: int) -> None:
    run = rl.train(CONFIG, [f"seed={seed}", "trainer.eval_every=40"], run_dir=tmp_path / "run")
    assert run.baseline["train"]["accuracy"] < 0.5
    assert run.evaluation["train"]["accuracy"] >= 0.9
    assert run.evaluation["held_out"]["accuracy"] >= 0.8


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_rewards_leave_it_near_the_start(tmp_path: Path, seed: int) -> None:
    overrides = [f"seed={seed}", "trainer.steps=20", "trainer.eval_every=20", "trainer.control=shuffled_rewards"]
    run = rl.train(CONFIG, overrides, run_dir=tmp_path / "run")
    moved = {split: row["accuracy"] - run.baseline[split]["accuracy"] for split, row in run.evaluation.items()}
    assert abs(moved["train"]) < 0.25
    assert abs(moved["held_out"]) < 0.25


@pytest.mark.slow
@pytest.mark.model
def test_an_adapter_learns_addition(tmp_path: Path) -> None:
    run = rl.train(CONFIG.with_name("grpo_lora.yaml"), ["trainer.eval_every=40"], run_dir=tmp_path / "run")
    assert run.evaluation["train"]["accuracy"] >= 0.8
