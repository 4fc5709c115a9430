"""What SmolLM2-135M finds as a proposer, beside controls at equal cost, over several seeds.

    python benchmarks/optimize_embedded.py [TASK] [SEEDS] [EVALUATIONS]

TASK: classifier (the class texts of a zero-shot sentence classifier, agents/classifier.py) or lexicon (the
prompt of a word classifier, agents/lexicon.py). Every arm has the same start, budget of candidates and
held-out examples. Prints each seed's held-out score, and per arm the mean over the seeds with a 95 %
bootstrap interval, and the paired difference to the start.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine import Budget, gallery
from engine.acceptance import bootstrap_interval
from engine.controls import optimize_with_controls
from engine.llm import LocalLLM

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "classifier": ("classify", {}),
    "lexicon": ("sentiment", {"batch_size": None}),
}
ARMS = ("opro", "best_of_n", "placebo", "random")


def run(task: str, seed: int, evaluations: int, llm: LocalLLM, folder: Path) -> dict[str, Any]:
    """Arm -> its result."""
    workflow, options = TASKS[task]
    file = f"agents/{task}.py"
    program = gallery.load(f"{file}:{workflow}")
    result, controls = optimize_with_controls(
        program,
        ARMS[1:],
        data=gallery.load(f"{file}:fitness")(),
        validation=gallery.load(f"{file}:held_out")(),
        feedback=gallery.load(f"{file}:score"),
        optimizer=ARMS[0],
        llm=llm,
        budget=Budget(evaluations=evaluations, invalid=4 * evaluations),
        run_dir=folder,
        seed=seed,
        **options,
    )
    result.reset("before")
    return {ARMS[0]: result, **controls}


def main(task: str = "classifier", seeds: str = "3", evaluations: str = "48") -> None:
    llm, console = LocalLLM("smollm2-135m"), Console(width=120)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(int(seeds)):
            found.append(run(task, seed, int(evaluations), llm, Path(folder) / str(seed)))
            scores = {arm: round(r.validation.best.score, 3) for arm, r in found[-1].items()}
            console.print(f"seed {seed}, held out: {scores}", {arm: r.best for arm, r in found[-1].items()})
    start = found[0][ARMS[0]].validation.baseline.score
    table = Table("arm", "fitness", "held out [95 % over seeds]", "over the start", "model calls", "seconds")
    table.add_row("the start", f"{found[0][ARMS[0]].baseline:.3f}", f"{start:.3f}", "", "", "")
    for arm in ARMS:
        results = [each[arm] for each in found]
        held_out = bootstrap_interval([r.validation.best.score for r in results])
        gain = bootstrap_interval([r.validation.best.score - start for r in results])
        table.add_row(
            arm,
            f"{sum(r.score for r in results) / len(results):.3f}",
            f"{held_out.score:.3f} [{held_out.low:.3f}, {held_out.high:.3f}]",
            f"{gain.score:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
            f"{sum(r.cost.calls for r in results) / len(results):.0f}",
            f"{sum(r.cost.seconds for r in results) / len(results):.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
