"""The reference run of Scaf-GRPO: beyond the cliff there is no signal for GRPO, and hints bring it."""

from __future__ import annotations

from pathlib import Path

import pytest

import rl

CONFIG = Path(__file__).parents[3] / "configs" / "scaf_grpo.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_long_sums_are_learnt_with_hints_and_not_without(tmp_path: Path, seed: int) -> None:
    """Equal steps; GRPO's 20 completions a problem are as many as Scaf-GRPO's 8 and 12 hinted ones."""
    guided = rl.train(CONFIG, [f"seed={seed}"], run_dir=tmp_path / "guided")
    alone = rl.train(
        CONFIG, [f"seed={seed}", "method={kind: grpo}", "policy.completions=20"], run_dir=tmp_path / "alone"
    )
    assert guided.baseline == alone.baseline
    assert guided.baseline["held_out"]["accuracy"] == 0
    assert guided.evaluation["held_out"]["accuracy"] > 0.8
    assert alone.evaluation["held_out"]["accuracy"] < 0.05
