"""What the sandbox costs: programs a second, cold and warm, for each tier; beside plain processes in the same run.

python benchmarks/sandbox.py [--programs N]

The program adds up a hundred numbers. "cold" makes a new Sandbox for each program: interpreter, self-test, program. The
first result of a process also includes finding out what the interpreter needs. "warm" is one worker, one program after
another. "subprocess" starts `python -I -S -c` for each program and confines nothing; "fork" is multiprocessing's fork
with a pipe, which confines nothing either: the limit for anything that gives each program a process. A figure is the
best of three; the ratio is to "subprocess".
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from engine.errors import SandboxUnavailable
from engine.sandbox import TIERS, Sandbox, tiers

PROGRAM = "RESULT = sum(range(100))"
EXPECTED = 4950
REPETITIONS = 3
COLD = 5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--programs", type=int, default=300, help="how many programs a repetition runs")
    count = options.parse_args().programs
    logging.getLogger("engine.sandbox").setLevel(logging.ERROR)  # the warning of each unsafe run
    baseline = rate(by_subprocess, min(count, 50))
    print(f"{'':14} {'first result, ms':>17} {'cold, a second':>15} {'warm, a second':>15} {'ratio':>7}")
    print(f"{'subprocess':14} {'-':>17} {'-':>15} {baseline:>15.0f} {1:>7.1f}")
    fork = rate(by_fork, count)
    print(f"{'fork':14} {'-':>17} {'-':>15} {fork:>15.0f} {fork / baseline:>7.1f}")
    for tier in TIERS:
        try:
            show(tier, baseline, count)
        except SandboxUnavailable as error:
            print(f"{tier:14} {error.message}")


def show(tier: str, baseline: float, count: int) -> None:
    first = first_result_s(tier)
    cold = rate(lambda: fresh(tier), COLD)
    with Sandbox(tier=tier, workers=1) as sandbox:
        warm = rate(lambda: sandbox.run(PROGRAM).value, count)
    print(f"{tier:14} {first * 1e3:>17.0f} {cold:>15.1f} {warm:>15.0f} {warm / baseline:>7.1f}")


def first_result_s(tier: str) -> float:
    """From a Sandbox to its first result in a process that has used none; raises SandboxUnavailable."""
    start = time.perf_counter()
    check(fresh(tier))
    return time.perf_counter() - start


def fresh(tier: str) -> Any:
    tiers.forget()
    with Sandbox(tier=tier, workers=1) as sandbox:
        return sandbox.run(PROGRAM).value


def by_subprocess() -> Any:
    command = [sys.executable, "-I", "-S", "-c", f"{PROGRAM}\nprint(RESULT)"]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def by_fork() -> Any:
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=answer, args=(writing,))
    process.start()
    writing.close()
    found = reading.recv()
    reading.close()
    process.join()
    return found


def answer(writing: Connection) -> None:
    names: dict[str, Any] = {}
    exec(compile(PROGRAM, "<program>", "exec"), names)
    writing.send(names["RESULT"])


def rate(run: Callable[[], Any], count: int) -> float:
    """Programs a second, the best of the repetitions."""
    best = 0.0
    check(run())
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        for _ in range(count):
            check(run())
        best = max(best, count / (time.perf_counter() - start))
    return best


def check(value: Any) -> None:
    if value != EXPECTED:
        raise SystemExit(f"the program gave {value!r} instead of {EXPECTED}")


if __name__ == "__main__":
    main()
