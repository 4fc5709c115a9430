"""What tracing costs: microseconds a call, backward by size, memory; beside trace-opt in the same run.

python benchmarks/trace.py [--peer PYTHON]

--peer is the interpreter of an environment in which `trace-opt` is installed (python -m venv peer &&
peer/bin/pip install trace-opt). A figure is the median of nine repetitions, with the best in brackets.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import trace

REPETITIONS = 9
LOOPS = 5_000
PEER_LOOPS = 500

PEER_PROGRAM = """
import json, time
try:
    from opto.trace import bundle, node
    from opto.trace.nodes import GRAPH
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    raise SystemExit
@bundle()
def first(a, b):
    "The first of two."
    return a
def operators(n):
    x = node(1.5)
    for _ in range(n):
        x * x
def calls(n):
    x = node(1.5)
    for _ in range(n):
        first(x, 2)
def measure(work, n):
    found = []
    for _ in range(%d):
        GRAPH.clear()
        start = time.perf_counter()
        work(n)
        found.append((time.perf_counter() - start) / n * 1e6)
    return found
print(json.dumps({"operator": measure(operators, %d), "call": measure(calls, %d)}))
"""


@trace.node
def first(a: Any, b: Any) -> Any:
    """The first of two."""
    return a


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peer", default=sys.executable, help="an interpreter with trace-opt installed")
    peer = peer_times(options.parse_args().peer)
    rows = [
        ("operator, in a recording", per_call(operators), peer.get("operator")),
        ("node call, in a recording", per_call(node_calls), peer.get("call")),
        ("node call, outside a recording", per_call(outside_calls), None),
        ("the same function, undecorated", per_call(plain_calls), None),
    ]
    print(f"{'microseconds a call':32} {'engine.trace':>18} {'trace-opt':>18}")
    for name, ours, theirs in rows:
        print(f"{name:32} {shown(ours):>18} {shown(theirs) if theirs else '-':>18}")
    if "missing" in peer:
        print(f"trace-opt was not measured: {peer['missing']}. Give an interpreter that has it with --peer.")
    print()
    backward_times()
    print()
    memory()


def operators(n: int) -> None:
    with trace.record():
        x: Any = trace.value(1.5)
        for _ in range(n):
            x * x


def node_calls(n: int) -> None:
    with trace.record():
        x = trace.value(1.5)
        for _ in range(n):
            first(x, 2)


def outside_calls(n: int) -> None:
    for _ in range(n):
        first(1.5, 2)


def plain_calls(n: int) -> None:
    plain = first.__wrapped__  # type: ignore[attr-defined]
    for _ in range(n):
        plain(1.5, 2)


def per_call(work: Callable[[int], None]) -> list[float]:
    """Microseconds a call in each repetition."""
    work(LOOPS)
    found = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work(LOOPS)
        found.append((time.perf_counter() - start) / LOOPS * 1e6)
    return found


def peer_times(python: str) -> dict[str, Any]:
    """The same two measurements of trace-opt, in its own interpreter; "missing" where it is not there."""
    program = PEER_PROGRAM % (REPETITIONS, PEER_LOOPS, PEER_LOOPS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "peer.py")
            file.write_text(program)  # a file, because trace-opt reads the source of what it decorates
            done = subprocess.run([python, str(file)], capture_output=True, text=True, timeout=300)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"missing": str(error)}
    except (ValueError, IndexError):
        return {"missing": (done.stderr.strip().splitlines() or ["no output"])[-1]}


def shown(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f})"


def backward_times() -> None:
    """backward and the sub-graph of one parameter, for chains and grids of growing size."""
    print(f"{'backward and sub-graph':24} {'nodes':>9} {'edges':>9} {'ms':>8} {'us a node or edge':>18}")
    for build, sizes in ((chain, (1_000, 10_000, 100_000)), (grid, (10, 30, 90))):
        for n in sizes:
            x = trace.param(1.0, name="x")
            with trace.record():
                output = build(x, n)
            found = []
            for _ in range(5):
                gc.collect()
                start = time.perf_counter()
                subgraph = trace.backward(output, "feedback")[x]
                size = len(subgraph.nodes), len(subgraph.edges)
                found.append(time.perf_counter() - start)
            name, each = f"{build.__name__} of {n:,}", min(found) * 1e6 / sum(size)
            print(f"{name:24} {size[0]:>9,} {size[1]:>9,} {min(found) * 1e3:>8.2f} {each:>18.2f}")


def chain(x: Any, n: int) -> Any:
    for _ in range(n):
        x = x + 1
    return x


def grid(x: Any, n: int) -> Any:
    row = [x + 0] * n
    for _ in range(n - 1):
        for k in range(1, n):
            row[k] = row[k - 1] + row[k]
    return row[-1]


def memory() -> None:
    """Memory in use after steps that each record, send feedback back and store a new version."""
    x = trace.param("text", name="x")
    print("memory in use after steps of record, backward and set")
    tracemalloc.start()
    done = 0
    for target in (100, 1_000, 10_000):
        for step in range(done, target):
            with trace.record():
                output = first(x + "a", 2)
            trace.backward(output, "feedback")[x].code()
            x.set(f"text {step}")
        done = target
        gc.collect()
        print(f"{target:>8,} steps {tracemalloc.get_traced_memory()[0] / 1024:>10,.1f} KiB")
    tracemalloc.stop()


if __name__ == "__main__":
    main()
