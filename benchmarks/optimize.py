"""What a search costs beside the program and the model: microseconds a program run and a step.

python benchmarks/optimize.py

The program is one traced call, the optimizer `random` or `optoprime` with a script for a model. A figure
is the median of five runs, and counts all there is: tracing, threads, statistics, journal, metrics.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from engine import Budget, optimize, trace
from engine.llm import ScriptedLLM
from engine.llm.base import Message


def measure(optimizer: dict[str, Any], examples: int, evaluations: int, workers: int) -> tuple[float, int, int]:
    """Seconds, program runs and steps of one search."""
    x = trace.param(0.0, name="x", ge=0, le=1)
    rng = random.Random(0)

    @trace.node
    def square(x: float, target: float) -> float:
        return -((x - target) ** 2)

    def answer(messages: list[Message]) -> dict[str, Any]:
        return {"reasoning": "", "suggestion": {"x": rng.random()}}

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = optimize(
            lambda target: square(x, target),
            [i / examples for i in range(examples)],
            feedback=lambda _, output: output,
            optimizer=optimizer,
            llm=ScriptedLLM(answer),
            budget=Budget(evaluations=evaluations),
            workers=workers,
            run_dir=Path(folder) / "run",
        )
        return time.perf_counter() - started, result.cost.runs, result.cost.steps


def main() -> None:
    cases = [
        ("many examples, 1 thread", {"kind": "random"}, 500, 40, 1),
        ("many examples, 4 threads", {"kind": "random"}, 500, 40, 4),
        ("one example, optoprime", {"kind": "optoprime"}, 1, 200, 1),
    ]
    print(f"{'':28}{'us a program run':>18}{'ms a step':>12}")
    for title, optimizer, examples, evaluations, workers in cases:
        found = [measure(optimizer, examples, evaluations, workers) for _ in range(5)]
        run = statistics.median(seconds / runs for seconds, runs, _ in found)
        step = statistics.median(seconds / steps for seconds, _, steps in found)
        print(f"{title:28}{run * 1e6:18.0f}{step * 1e3:12.2f}")


if __name__ == "__main__":
    main()
