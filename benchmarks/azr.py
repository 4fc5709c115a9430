"""Absolute Zero on one-line functions (configs/azr.yaml) and its controls, several seeds: held-out greedy accuracy.

    python benchmarks/azr.py [--arms azr shuffled random] [--seeds 0 1 2] [--steps 20] [--every 10] [--out FOLDER]

  azr        as configured: the model proposes what it solves
  shuffled   the same with rewards shuffled within each cell: what is learnt then is luck
  random     GRPO on all triplets of the same grammar that are not held out, drawn at random: no proposer is
             needed, nor can there be one that is better informed
The held-out triplets are about half of the grammar (rl/triplets/data/one_line.jsonl, which `held_out_rows` drew once).
--out keeps the runs: those that the folder holds are left out, and those that were stopped, or have fewer steps, go on.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import rl
from rl.config import load
from rl.triplets import Limits, Proposal, Triplet, checked
from rl.triplets.line import EXAMPLES

CONFIG = Path(__file__).parents[1] / "configs" / "azr.yaml"
BODIES = ["x", *map(str, range(10)), *(f"{name}(x, {k})" for name in ("max", "min") for k in range(10))]
"""All that source.program_pattern allows."""
HELD_OUT = {"x": 6, "k": 48, "max": 48, "min": 48}
"""How many triplets of each kind of body are held out, of 10, 100, 100 and 100: with them one standard error is at
most .04, and self-play can still reach the other half."""


def held_out_rows(seed: int = 0) -> list[dict[str, Any]]:
    """The rows of one_line.jsonl: none of the config's seeds, nor of the solved examples that stand in every question.

    The first input is what a deduction asks for; the three others are for inductions.
    """
    draws = random.Random(f"one_line/{seed}")
    shown = [(s["program"], s["inputs"][0]) for s in load(CONFIG).resolved()["source"]["seeds"]]
    shown += [(example.program, example.inputs[0]) for example in EXAMPLES]
    rows = []
    for kind, n in HELD_OUT.items():
        bodies = [body for body in BODIES if ("k" if body.isdigit() else body.partition("(")[0]) == kind]
        pairs = [(f"def f(x): return {body}", str(x)) for body in bodies for x in range(10)]
        for program, given in sorted(draws.sample([pair for pair in pairs if pair not in shown], n)):
            others = draws.sample([str(x) for x in range(10) if str(x) != given], 3)
            rows.append({"program": program, "inputs": [given, *others]})
    return rows


def random_tasks(folder: Path) -> str:
    """Overrides that replace self-play by GRPO on every triplet of the grammar; writes its data into the folder."""
    experiment = load(CONFIG)
    source = experiment.source_class(experiment.source)
    kept = {triplet.key for triplet in source.held_out}
    pairs = [Proposal("deduction", f"def f(x): return {body}", (str(x),)) for body in BODIES for x in range(10)]
    found = [t for t in checked(pairs, Limits()) if isinstance(t, Triplet) and t.key not in kept]
    for name, triplets in (("train", found), ("held_out", source.held_out)):
        questions = map(source.question, triplets)
        rows = [json.dumps({"prompt": q.prompt, "id": q.id, **q.columns}) for q in questions]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return json.dumps(
        {"kind": "jsonl", "path": str(folder / "train.jsonl"), "held_out_path": str(folder / "held_out.jsonl")}
    )


def overrides(arm: str, folder: Path) -> list[str]:
    """What tells the arm from the config."""
    if arm == "shuffled":
        return ["trainer.control=shuffled_rewards"]
    return ["method={kind: grpo}", f"source={random_tasks(folder)}", "trainer.prompts=10"] if arm == "random" else []


def train(arm: str, seed: int, given: argparse.Namespace, folder: Path) -> rl.Run:
    """The run of that arm and seed, from the folder if it is there, and to its end if it is not."""
    path = folder / f"{arm}-{seed}"
    if (path / "status.json").exists():
        run = rl.Run.read(path)
        if run.status == "done" and run.metrics[-1]["step"] >= given.steps:
            return run
    fixed = [f"seed={seed}", f"trainer.steps={given.steps}", f"trainer.eval_every={given.every}", "trainer.keep=1"]
    is_begun = (path / "checkpoints").exists()
    return rl.train(CONFIG, [*overrides(arm, folder), *fixed], is_begun, run_dir=path, is_quiet=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arms", nargs="+", choices=["azr", "shuffled", "random"], default=["azr", "shuffled", "random"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = None
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for arm in given.arms:
            for seed in given.seeds:
                run = train(arm, seed, given, folder)
                points = {r["step"]: r["eval"]["held_out"]["accuracy"] for r in run.metrics if "eval" in r}
                valid = [row["azr/valid"] for row in run.metrics if "azr/valid" in row]
                table = table or Table(
                    "arm", "seed", *map(str, points), "valid, first and last 5", title="accuracy at step"
                )
                shares = [f"{sum(part) / len(part):.2f}" for part in (valid[:5], valid[-5:]) if part]
                table.add_row(arm, str(seed), *(f"{value:.2f}" for value in points.values()), " ".join(shares))
    Console().print(table)


if __name__ == "__main__":
    main()
