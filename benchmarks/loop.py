"""How well a search uses its workers when models are slow, and what it costs itself when they are not.

python benchmarks/loop.py [--workers 32] [--examples 64] [--steps 3] [--latency 1.0]

Efficiency: program and proposer ask an endpoint (engine.testing) that answers after a second. Printed is the sum of
the seconds of all model calls over workers x wall time; "busy" counts the wall time of the evaluations alone, so that
the rest is what proposals, which come one after the other, leave idle. The bound is what is possible if every
step waits for one proposal and nothing else.
Overhead: model and program answer at once; all that is left is the engine's: proposing, sieving, tracing, threads,
statistics, journal, metrics. The last column is processor time a run or call, which other load does not change.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import Budget, Feedback, Result, optimize, trace
from engine.llm import LLM, OpenAILLM, ScriptedLLM
from engine.testing import Proposer, Server

TARGETS = {"x": 0.7, "mode": "b"}
ASKING: list[dict[str, Any]] = [
    {"kind": "opro"},
    {"kind": "best_of_n"},
    {"kind": "optoprime", "candidates": 8},
    {"kind": "optoprime", "candidates": 1},
]


class Meter:
    """Sums the seconds of calls, from several threads."""

    def __init__(self) -> None:
        self.seconds, self.calls, self._lock = 0.0, 0, threading.Lock()

    def timed(self, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        try:
            return call()
        finally:
            with self._lock:
                self.seconds += time.perf_counter() - started
                self.calls += 1


def search(optimizer: dict[str, Any], llm: LLM, ask: Callable[[str], Any], args: Any, steps: int) -> Result:
    """One search; every run of the program asks once."""
    x = trace.param(0.0, name="x", ge=0, le=1)
    mode = trace.param("a", name="mode", choices=["a", "b", "c"])

    @trace.node
    def program(x: float, mode: str, example: int) -> float:
        ask(f"{x} {mode} {example}")
        return -abs(x - 0.7) + (mode == "b")

    with tempfile.TemporaryDirectory() as folder:
        return optimize(
            lambda example: program(x, mode, example),
            list(range(args.examples)),
            feedback=lambda _, out: Feedback(out, f"it is {out:.3f}"),
            optimizer=optimizer,
            llm=llm,
            budget=Budget(evaluations=None, steps=steps, invalid=1000),
            accept="better",
            workers=args.workers,
            run_dir=Path(folder) / "run",
        )


def efficiency(args: Any) -> None:
    title = f"{args.workers} workers, {args.examples} examples, {args.latency:g} s a call"
    print(f"{title:44}{'efficiency':>12}{'bound':>8}{'busy':>8}{'wall s':>9}{'calls':>8}")
    for optimizer in ASKING:
        meter, wall, result = slow_search(optimizer, args)
        total = meter.seconds + result.cost.calls * args.latency
        waiting = args.steps * args.latency
        bound = total / (args.workers * (meter.calls * args.latency / args.workers + waiting))
        busy = meter.seconds / (args.workers * (wall - waiting))
        ratio = total / (args.workers * wall)
        calls = meter.calls + result.cost.calls
        print(f"{label(optimizer):44}{ratio:12.1%}{bound:8.1%}{busy:8.1%}{wall:9.1f}{calls:8}")


def slow_search(optimizer: dict[str, Any], args: Any) -> tuple[Meter, float, Result]:
    """The program's own calls, the seconds of the whole search, and its result."""
    with Server(Proposer(TARGETS, p=0.3), latency_s=args.latency) as server:
        llm, meter = OpenAILLM("test", server.url, max_concurrency=None), Meter()
        started = time.perf_counter()
        result = search(optimizer, llm, lambda text: meter.timed(lambda: asked(llm, text)), args, args.steps)
        return meter, time.perf_counter() - started, result


def label(optimizer: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" if key != "kind" else str(value) for key, value in optimizer.items())


def asked(llm: LLM, text: str) -> str:
    return llm.complete([{"role": "user", "content": f"Write x: {text}"}], max_tokens=8, seed=1).text


def overhead(args: Any) -> None:
    title = f"\noverhead in ms, {args.overhead_examples} examples, 40 steps"
    print(f"{title:45}{'a run':>10}{'a call':>10}{'a run or call':>15}{'of processor':>14}")
    args = argparse.Namespace(workers=4, examples=args.overhead_examples)
    for optimizer in ASKING:
        found = [instant_search(optimizer, args) for _ in range(3)]
        run, call, both, processor = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{label(optimizer):44}{run:10.2f}{call:10.2f}{both:15.2f}{processor:14.2f}")


def instant_search(optimizer: dict[str, Any], args: Any) -> tuple[float, ...]:
    """Milliseconds of the whole search for each program run, each model call, each of both; and of the processor."""
    llm = Instant(Proposer(TARGETS, p=0.5), iter(range(10**9)))
    started, worked = time.perf_counter(), time.process_time()
    cost = search(optimizer, llm, lambda text: None, args, 40).cost
    wall, work = 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - worked)
    both = cost.runs + cost.calls
    return wall / cost.runs, wall / cost.calls, wall / both, work / both


class Instant(ScriptedLLM):
    """A proposer in this process that answers at once, through the engine's own reading and checking."""

    def __init__(self, skill: Proposer, numbers: Any) -> None:
        def script(messages: Any) -> str:
            schema = self.calls[-1].schema
            asked = {"response_format": {"json_schema": {"schema": schema}}} if schema else {}
            return skill(messages, {**asked, "seed": next(numbers)})

        super().__init__(script, name="instant")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--overhead-examples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--latency", type=float, default=1.0)
    args = parser.parse_args()
    efficiency(args)
    overhead(args)
    overhead(argparse.Namespace(**{**vars(args), "overhead_examples": 1}))


if __name__ == "__main__":
    main()
