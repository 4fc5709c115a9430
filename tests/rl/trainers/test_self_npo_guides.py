"""What Self-NPO exists for, with configs/self_npo.yaml: guided away from its negative the model of digits is better."""

from __future__ import annotations

from pathlib import Path

import pytest

import rl

pytestmark = pytest.mark.slow
CONFIG = Path(__file__).parents[3] / "configs" / "self_npo.yaml"


def test_the_negative_is_worse_and_guides_to_better_digits(tmp_path: Path) -> None:
    """Measured, seeds 0, 1 and 2: accuracy .853 .857 .856 without guidance, .936 .945 .930 with the negative's, at a
    Frechet distance of 101.6 96.9 96.1 and 94.8 87.9 91.7; the negative alone has 178.4 177.4 169.9."""
    run = rl.train(CONFIG, ["trainer.eval_every=1000"], run_dir=tmp_path / "run", is_quiet=True)
    table = run.evaluation
    positive, guided = table["positive"], table["negative_guided"]
    assert guided["accuracy"] >= positive["accuracy"] + 0.03 and guided["frechet"] <= positive["frechet"]
    assert table["negative_alone"]["frechet"] >= 1.5 * positive["frechet"]
    assert table["same_negative"] == positive
    assert table["random_negative"]["accuracy"] < positive["accuracy"] + 0.02
