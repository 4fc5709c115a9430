"""Memory and time of a zeroth-order step, beside inference on the same batch, in-place MeZO and Adam: SmolLM2-135M.

    python benchmarks/zeroth_order.py [--rows 8] [--tokens 128] [--threads 1]

Each runs in a process of its own. Memory is the peak above what the imports take: the model, and all that the step
needs (Linux: VmHWM, reset after the model is loaded). `inference` is one forward pass for the loss; `mezo` ours: two of
them and the move; `in place` the textbook's: weights are perturbed, measured, perturbed back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from engine.llm.models import model_path
from rl.methods._zeroth_order import Point
from rl.methods.mezo import Mezo, MezoConfig
from rl.ops.tokens import groups_logprobs
from rl.trainers.directions import Directions
from rl.trainers.variables import Live

KINDS = ("inference", "mezo", "in place", "adam")


def resident(field: str) -> float:
    """GiB of this process: VmRSS now, VmHWM the most since `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 2**20
    raise RuntimeError(field)


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def ours(model: Any, loss: Callable[[], torch.Tensor]) -> Callable[[int], None]:
    method = Mezo(MezoConfig())
    variables = Live(model, Directions(method, 0, torch.device("cpu")))

    def step(number: int) -> None:
        values = []
        with torch.no_grad():
            for sign in (1.0, -1.0):
                with variables.at(Point(((0, sign * 1e-3),)), number):
                    values.append(float(loss()))
        variables.move(Point(((0, -1e-7 * (values[0] - values[1]) / 2e-3),)), number)

    return step


def in_place(model: Any, loss: Callable[[], torch.Tensor]) -> Callable[[int], None]:
    def shift(number: int, scale: float) -> None:
        torch.manual_seed(number)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape), alpha=scale)

    def step(number: int) -> None:
        with torch.no_grad():
            shift(number, 1e-3)
            plus = float(loss())
            shift(number, -2e-3)
            slope = (plus - float(loss())) / 2e-3
            shift(number, 1e-3)
            shift(number, -1e-7 * slope)

    return step


def adam(model: Any, loss: Callable[[], torch.Tensor]) -> Callable[[int], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step(number: int) -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def measure(kind: str, rows: int, tokens: int) -> dict[str, float]:
    """Peak GiB above the imports, and the median seconds of a step."""
    before = resident("VmRSS")
    model = AutoModelForCausalLM.from_pretrained(model_path("smollm2-135m"), dtype=torch.float32)
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(100, 40000, (rows, tokens), generator=draws).tolist()
    prompts, answers = [row[: tokens // 2] for row in ids], [[row[tokens // 2 :]] for row in ids]

    def loss() -> torch.Tensor:
        return -groups_logprobs(model, prompts, answers, mode="plain").mean()

    def inference(number: int) -> None:
        with torch.no_grad():
            loss()

    makers = {"mezo": ours, "in place": in_place, "adam": adam}
    step = makers[kind](model, loss) if kind in makers else inference
    with torch.no_grad():
        loss()  # so that every weight has been read
    reset_peak()
    seconds = []
    for number in range(3):
        started = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - started)
    return {"gib": resident("VmHWM") - before, "seconds": sorted(seconds)[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.kind:
        print(json.dumps(measure(given.kind, given.rows, given.tokens)))
        return
    found = {}
    for kind in KINDS:
        command = [sys.executable, __file__, *sys.argv[1:], "--kind", kind]
        found[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    table = Table(
        "step", "peak GiB", "beside inference", "seconds", title=f"{given.rows} rows of {given.tokens} tokens"
    )
    for kind, row in found.items():
        ratio = row["gib"] / found["inference"]["gib"]
        table.add_row(kind, f"{row['gib']:.2f}", f"{ratio:.2f}", f"{row['seconds']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
