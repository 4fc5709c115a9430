"""The main job in one go: words found by optimize(), weights trained by GRPO, each beside its controls.

make demo        (or: python examples/demo.py [RUN_FOLDER])
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import rl
from engine import Budget, gallery
from engine.controls import optimize_with_controls
from engine.llm import LocalLLM

CLASSIFIER = "agents/classifier.py"
CONTROLS = ("best_of_n", "placebo", "random")


def words(folder: Path) -> Table:
    """Search the class texts of a zero-shot sentence classifier, with SmolLM2 as the proposer."""
    result, controls = optimize_with_controls(
        gallery.load(f"{CLASSIFIER}:classify"),
        CONTROLS,
        data=gallery.load(f"{CLASSIFIER}:fitness")(),
        feedback=gallery.load(f"{CLASSIFIER}:score"),
        validation=gallery.load(f"{CLASSIFIER}:held_out")(),
        optimizer="opro",
        llm=LocalLLM("smollm2-135m"),
        budget=Budget(evaluations=48, invalid=192),
        run_dir=folder,
    )
    table = Table("class texts from", "fitness", "held out [95 %]", "negative | positive", title="optimize()")
    table.add_row("the start", f"{result.baseline:.3f}", interval(result.validation.baseline), "negative | positive")
    for name, each in {"opro": result, **controls}.items():
        found = f"{each.best['negative']} | {each.best['positive']}"
        table.add_row(name, f"{each.score:.3f}", interval(each.validation.best), found)
    return table


def interval(measured) -> str:
    return f"{measured.score:.3f} [{measured.low:.3f}, {measured.high:.3f}]"


def weights(root: Path) -> Table:
    """Train SmolLM2 on single-digit addition by GRPO, and once with rewards that say nothing."""
    table = Table("rewards", "steps", "training pairs", "held-out pairs", title="GRPO, greedy accuracy")
    for control in ("none", "shuffled_rewards"):
        steps = "40" if control == "none" else "20"
        overrides = [f"trainer.control={control}", f"trainer.steps={steps}", "trainer.keep=1"]
        run = rl.train("configs/grpo.yaml", overrides, run_dir=root / f"grpo-{control.partition('_')[0]}")
        before_after = [
            f"{run.baseline[split]['accuracy']:.2f} -> {run.evaluation[split]['accuracy']:.2f}"
            for split in ("train", "held_out")
        ]
        table.add_row("shuffled" if control != "none" else "true", steps, *before_after)
    return table


def fresh(wanted: Path) -> Path:
    """The folder, or one beside it that does not exist yet."""
    numbered = (wanted.with_name(f"{wanted.name}-{n}") for n in range(2, 10_000))
    return next(folder for folder in (wanted, *numbered) if not folder.exists())


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else fresh(Path("runs/demo"))
    tables = [words(root / "words"), weights(root)]
    console = Console()
    for table in tables:
        console.print("", table)
    reports = sorted(str(report) for report in root.rglob("report.html"))
    console.print("\nreports, beside everything that was recorded:", *reports, sep="\n  ", soft_wrap=True)


if __name__ == "__main__":
    main()
