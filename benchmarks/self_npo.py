"""Self-NPO on digits: accuracy and Frechet distance of every way to sample, three seeds, beside its controls.

python benchmarks/self_npo.py                     # configs/self_npo.yaml, in some ten minutes
python benchmarks/self_npo.py --base-steps 2400   # a start model that was trained for longer
python benchmarks/self_npo.py method.guidance=0   # targets under the condition, instead of without it
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import rl
from engine import gallery

ROOT = Path(__file__).parents[1]


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """A row of the table: the mean over the seeds, and each seed's value."""
    cells = []
    for quantity, form in (("accuracy", ".3f"), ("frechet", ".1f")):
        values = [run[name][quantity] for run in runs]
        cells.append(f"{mean(values):{form}} ({' '.join(f'{value:{form}}' for value in values)})")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--base-steps", type=int, default=600, help="steps of the start model's training")
    parser.add_argument("overrides", nargs="*", help="of the config, as method.guidance=0")
    given = parser.parse_args()
    train: Any = gallery.load("agents/digits.py:trained")
    model = train("digits-1" if given.base_steps == 600 else f"digits-1-{given.base_steps}", given.base_steps)
    runs = []
    for seed in given.seeds:
        overrides = [f"model.name={model}", f"seed={seed}", "trainer.eval_every=1000", *given.overrides]
        with tempfile.TemporaryDirectory() as folder:
            run = rl.train(ROOT / "configs" / "self_npo.yaml", overrides, run_dir=f"{folder}/run", is_quiet=True)
            seconds = sum(line["seconds"] for line in run.metrics)
        print(f"seed {seed}: {seconds:.0f} s", flush=True)
        runs.append(run.evaluation)
    print("\n| | accuracy | Frechet distance |\n|---|---|---|")
    for name in runs[0]:
        print(row(name, runs))


if __name__ == "__main__":
    main()
