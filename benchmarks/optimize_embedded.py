"""What SmolLM2-135M finds as a proposer, beside controls at equal cost, over several seeds.

    python benchmarks/optimize_embedded.py [classifier | lexicon] [--seeds 0 1 2] [--arms opro random ...]

classifier: the class texts of a zero-shot sentence classifier (agents/classifier.py); lexicon: the prompt of
a word classifier (agents/lexicon.py). Every arm has the same start, budget of candidates and held-out
examples. Prints each seed's held-out scores, and an arm's mean over the seeds with a 95 % bootstrap interval
over them, beside the start and beside best_of_n, which has the same model and sees no score. --out FILE keeps
every arm of every seed as a line of JSON and leaves out those that the file holds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine import Budget, gallery, optimize
from engine.acceptance import bootstrap_interval
from engine.llm import LocalLLM

WORKFLOWS = {"classifier": "classify", "lexicon": "sentiment"}
ARMS = ("opro", "best_of_n", "placebo", "random")

Row = dict[str, Any]
"""One arm of one seed: task, seed, arm, start, fitness, held_out, calls, seconds, best."""


def run(task: str, arm: str, seed: int, evaluations: int) -> Row:
    """One search from the start, with a model whose samples follow from the seed alone."""
    file = f"agents/{task}.py"
    with tempfile.TemporaryDirectory() as folder:
        result = optimize(
            gallery.load(f"{file}:{WORKFLOWS[task]}"),
            gallery.load(f"{file}:fitness")(),
            validation=gallery.load(f"{file}:held_out")(),
            feedback=gallery.load(f"{file}:score"),
            optimizer=arm,
            llm=LocalLLM("smollm2-135m", seed=seed),
            budget=Budget(evaluations=evaluations, invalid=4 * evaluations),
            run_dir=Path(folder) / arm,
            seed=seed,
        )
    result.reset("before")
    return {
        "task": task,
        "seed": seed,
        "arm": arm,
        "start": result.validation.baseline.score,
        "fitness": result.score,
        "held_out": result.validation.best.score,
        "calls": result.cost.calls,
        "seconds": result.cost.seconds,
        "best": dict(result.best),
    }


def table(rows: list[Row]) -> Table:
    """Means over the seeds, with intervals."""
    found = Table("arm", "seeds", "fitness", "held out [95 %]", "over the start", "over best_of_n", "calls", "seconds")
    plain = {row["seed"]: row["held_out"] for row in rows if row["arm"] == "best_of_n"}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        paired = [row["held_out"] - plain[row["seed"]] for row in own if row["seed"] in plain]
        found.add_row(
            arm,
            str(len(own)),
            f"{mean(own, 'fitness'):.3f}",
            interval([row["held_out"] for row in own], ""),
            interval([row["held_out"] - row["start"] for row in own], "+"),
            interval(paired, "+") if arm != "best_of_n" and paired else "",
            f"{mean(own, 'calls'):.0f}",
            f"{mean(own, 'seconds'):.0f}",
        )
    return found


def mean(rows: list[Row], key: str) -> float:
    return float(sum(row[key] for row in rows) / len(rows))


def interval(values: list[float], sign: str) -> str:
    measured = bootstrap_interval(values)
    return f"{measured.score:{sign}.3f} [{measured.low:{sign}.3f}, {measured.high:{sign}.3f}]"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("task", nargs="?", choices=WORKFLOWS, default="classifier")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--arms", nargs="+", default=ARMS)
    options.add_argument("--evaluations", type=int, default=48)
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    kept = asked.out.read_text().splitlines() if asked.out and asked.out.exists() else []
    rows = [row for row in map(json.loads, kept) if row["task"] == asked.task]
    console = Console(width=120)
    for seed in asked.seeds:
        for arm in asked.arms:
            if any((row["seed"], row["arm"]) == (seed, arm) for row in rows):
                continue
            rows.append(run(asked.task, arm, seed, asked.evaluations))
            console.print(f"seed {seed}, {arm}: held out {rows[-1]['held_out']:.3f}", rows[-1]["best"])
            if asked.out:
                with asked.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    console.print(f"the start, held out: {rows[0]['start']:.3f}", table(rows))


if __name__ == "__main__":
    main()
