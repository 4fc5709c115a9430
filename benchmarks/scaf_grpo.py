"""Scaf-GRPO and GRPO on a task with a learning cliff (configs/scaf_grpo.yaml), both curves over several seeds.

    python benchmarks/scaf_grpo.py [--seeds 0 1 2] [--steps 60] [--out FOLDER]

First the cliff: the share of held-out problems that at least one of 8 samples of the starting model solves, bare
and under the whole of each tier. Then held-out accuracy, greedy and without hints, of
  scaf_grpo    as configured: 8 completions a problem, and at most 12 under hints where all 8 failed
  grpo         the same steps and 8 completions
  grpo x 20    the same steps and 20 completions: never fewer samples than scaf_grpo had
--out keeps the runs, and leaves out those that the folder holds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import rl
from rl.config import load
from rl.methods.scaf_grpo import COLUMNS, hinted, hints_of
from rl.trainers.parts import Prepared
from rl.trainers.seeds import derived_seed

CONFIG = Path(__file__).parents[1] / "configs" / "scaf_grpo.yaml"
ARMS = {
    "scaf_grpo": [],
    "grpo": ["method={kind: grpo}"],
    "grpo x 20": ["method={kind: grpo}", "policy.completions=20"],
}


def cliff() -> Table:
    """pass@8 of the starting model on the held-out problems."""
    prepared = Prepared.of(load(CONFIG))
    config, problems = prepared.experiment.method, prepared.source.evaluation()["held_out"]
    table = Table("held-out problems", "pass@1", "pass@8", title="the starting model, sampled at temperature 1")
    with (parts := prepared.built(None)).policy:
        for tier in ("none", *COLUMNS):
            prompts = list(problems)
            if tier != "none":
                whole = [[hint for hint in hints_of(p, config) if hint.tier == tier][-1] for p in problems]
                prompts = [hinted(p, hint, config.template) for p, hint in zip(problems, whole, strict=True)]
            seeds = [derived_seed("cliff", tier, i) for i in range(len(prompts))]
            groups = parts.sampler.scored(prompts, 8, seeds)
            right = sum(sum(reward or 0 for reward in group.rewards) for group in groups) / (8 * len(groups))
            table.add_row(f"hints: {tier}", f"{right:.3f}", f"{sum(any(g.rewards) for g in groups) / len(groups):.2f}")
    return table


def train(arm: str, seed: int, steps: int, folder: Path) -> rl.Run:
    """The run of that arm and seed, from the folder if it is there."""
    path = folder / f"{arm.replace(' ', '')}-{seed}"
    if (path / "status.json").exists() and (run := rl.Run.read(path)).status == "done":
        return run
    fixed = [f"seed={seed}", f"trainer.steps={steps}", "trainer.keep=1", f"trainer.save_every={steps}"]
    return rl.train(CONFIG, [*ARMS[arm], *fixed], run_dir=path, is_quiet=True)


def curve(run: rl.Run) -> dict[int, float]:
    """Step -> held-out accuracy."""
    return {row["step"]: row["eval"]["held_out"]["accuracy"] for row in run.metrics if "eval" in row}


def samples(run: rl.Run, completions: int, prompts: int) -> int:
    """Completions that were sampled for training, those under hints with the others."""
    rows = [row for row in run.metrics if "reward_mean" in row]
    return sum(prompts * completions + int(row.get("hints/sampled", 0)) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    console, config = Console(), load(CONFIG).config
    console.print(cliff())
    with tempfile.TemporaryDirectory() as temporary:
        folder, table = given.out or Path(temporary), None
        for arm in ARMS:
            for seed in given.seeds:
                run = train(arm, seed, given.steps, folder)
                points = curve(run)
                table = table or Table("arm", "seed", *map(str, points), "samples", title="held-out accuracy at step")
                completions = 20 if "20" in arm else config.policy.completions
                count = samples(run, completions, config.trainer.prompts)
                table.add_row(arm, str(seed), *(f"{value:.2f}" for value in points.values()), f"{count:,}")
        console.print(table)


if __name__ == "__main__":
    main()
