"""Our optimizers beside GEPA, TextGrad, OpenEvolve, OPRO and Trace's OptoPrime: same proposer, budget and tasks.

    python benchmarks/optimizers.py [--peer PYTHON] [--tasks ...] [--ours ...] [--peers ...] [--seeds N] [--out FILE]

--peer is the interpreter of an environment with the peers (`make bench` makes one); without it only ours and
OPRO, which needs no package, run. Every run starts at the same values and may spend the same number of program
runs on an example and of answers of the proposer (each sample counts); what it returns is scored on held-out
examples (the noisy arms: by the true mean). The proposer is simulated (benchmarks/peers/proposer.py), or with
--model smollm2-135m the embedded one; all ask it over HTTP, each in its own format. Prints, per task, the mean over
the seeds with a 95 % bootstrap interval, and the difference of the reference (--reference, by default
what "auto" chooses) to each, paired over the seeds. "auto:better" takes the highest mean, as the peers do, where the
others take what a paired test bears out. --out FILE keeps each run as a line of JSON, and leaves out those
that the file holds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from peers.catalog import TASKS
from peers.endpoint import Answer, Endpoint
from peers.ours import Limited, run
from peers.proposer import Proposer
from rich.console import Console
from rich.table import Table

from engine.acceptance import bootstrap_interval
from engine.errors import EngineError
from engine.llm.structured import MalformedAnswer
from engine.optimizers import names

PEERS = ("gepa", "textgrad", "openevolve", "opro", "trace")
MAIN = Path(__file__).resolve().parent / "peers" / "main.py"
MOST = 96
"""Tokens of an answer of the embedded model, which takes about two seconds for them."""
NEEDS_RANKING = {"rank"}
OURS = ["auto", "auto:better", *(name for name in names() if name not in NEEDS_RANKING)]
"""An optimizer, and its acceptance rule where it is not "paired"."""
NOTES = {
    ("textgrad", "numeric"): "numbers as text",
    ("textgrad", "blind"): "numbers as text",
    ("textgrad", "arms"): "choices as text",
    ("gepa", "numeric"): "numbers as text",
    ("gepa", "blind"): "numbers as text",
    ("gepa", "arms"): "choices as text",
    ("opro", "numeric"): "numbers as text",
    ("opro", "blind"): "numbers as text",
    ("opro", "arms"): "choices as text",
    ("openevolve", "puzzles"): "full rewrites",
    ("openevolve", "numeric"): "as Python lines",
    ("openevolve", "blind"): "as Python lines",
    ("openevolve", "arms"): "as Python lines",
}

Row = dict[str, Any]
"""One run: task, seed, optimizer, score, values, runs, calls, seconds; or an error."""


class Bench:
    """Runs what is asked for, with one endpoint."""

    def __init__(self, asked: argparse.Namespace, endpoint: Endpoint) -> None:
        self.asked, self.endpoint = asked, endpoint

    def ours(self, optimizer: str, task: str, seed: int) -> Row:
        asked, name = self.asked, f"{optimizer}-{task}-{seed}"
        with quiet():
            url = self.endpoint.open(name, self._answer(task, seed), asked.calls)
            llm = Limited(self.endpoint, name, url, asked.calls)
            kind, _, accept = optimizer.partition(":")
            try:
                found = run(TASKS[task](seed), kind, llm, seed=seed, runs=asked.runs, accept=accept or "paired")
            except EngineError as error:  # an optimizer that cannot take this task, or this model
                found = {"error": error.message}
            finally:
                self.endpoint.close(name)
        return {"task": task, "seed": seed, "optimizer": optimizer, **found}

    def peer(self, peer: str, jobs: Sequence[tuple[str, int]]) -> Iterator[Row]:
        """A peer's runs, in one process of its interpreter."""
        python = str(Path(self.asked.peer or sys.executable).absolute())
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        environment = {**os.environ, "OPENAI_API_KEY": "none", "PYTHONWARNINGS": "ignore"}
        with (
            tempfile.TemporaryDirectory() as folder,  # TextGrad writes a log where it runs
            subprocess.Popen([python, str(MAIN), peer], cwd=folder, env=environment, **options) as process,
        ):  # type: ignore[call-overload]
            for task, seed in jobs:
                name = f"peer-{peer}-{task}-{seed}"
                url = self.endpoint.open(name, self._answer(task, seed), self.asked.calls)
                limits = {"runs": self.asked.runs, "calls": self.asked.calls}
                try:
                    process.stdin.write(json.dumps({"task": task, "seed": seed, "url": url, **limits}) + "\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                except BrokenPipeError:
                    line = ""
                finally:
                    self.endpoint.close(name)
                found = json.loads(line) if line else {"error": "the peer's process ended"}
                # What the endpoint gave is the truth about calls; peers count their own.
                row = {
                    "task": task,
                    "seed": seed,
                    "optimizer": f"peer:{peer}",
                    **found,
                    "calls": self.endpoint.given[name],
                }
                yield row
            process.stdin.close()

    def _answer(self, task: str, seed: int) -> Answer:
        if self.asked.model is None:
            return Proposer(TASKS[task](seed), seed, self.asked.skill).answer
        return embedded(self.asked.model, seed)


def embedded(model: str, seed: int) -> Answer:
    """A model in this process; every request draws anew, and one with a JSON schema gets what satisfies it."""
    from engine.llm import LocalLLM  # torch takes seconds to import

    llm = LocalLLM(model, seed=seed)

    def answer(request: Any) -> str:
        told = {key: request[key] for key in ("temperature", "top_p", "stop") if request.get(key) is not None}
        sampling = {"temperature": 1.0, **told, "max_tokens": min(int(request.get("max_tokens") or MOST), MOST)}
        asked = request.get("response_format") or {}
        schema = asked["json_schema"]["schema"] if asked.get("type") == "json_schema" else None
        try:
            return llm.complete(request["messages"], schema=schema, **sampling).text
        except MalformedAnswer as error:
            return error.texts[0]

    return answer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a run tells on the terminal."""
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stderr(nothing),
        contextlib.redirect_stdout(nothing),
    ):
        yield


def table(task: str, rows: Sequence[Row], reference: str) -> Table:
    """Means over the seeds of one task, best first, with intervals and the reference's lead."""
    found = Table(
        "optimizer", "held out [95 %]", "runs", "calls", f"{reference} - this [95 %]", f"{reference} is", "seeds"
    )
    own = {row["seed"]: row["score"] for row in rows if row["optimizer"] == reference and "score" in row}
    scored = {}
    for row in rows:
        if "score" in row:
            scored.setdefault(row["optimizer"], []).append(row)
    for name, runs in sorted(scored.items(), key=lambda item: -fmean(r["score"] for r in item[1])):
        leads = [own[r["seed"]] - r["score"] for r in runs if r["seed"] in own]
        note = NOTES.get((name.removeprefix("peer:"), task), "") if name.startswith("peer:") else ""
        found.add_row(
            name + (f" ({note})" if note else ""),
            shown([r["score"] for r in runs]),
            f"{fmean(r['runs'] for r in runs):.0f}",
            f"{fmean(r['calls'] for r in runs):.0f}",
            shown(leads, "+") if leads and name != reference else "",
            standing(leads) if leads and name != reference else "",
            str(len(runs)),
        )
    for name in dict.fromkeys(row["optimizer"] for row in rows if "error" in row):
        errors = [row["error"] for row in rows if row["optimizer"] == name and "error" in row]
        found.add_row(name, f"failed {len(errors)} x: {errors[0]:.60}", "", "", "", "", "")
    return found


def shown(values: Sequence[float], sign: str = "") -> str:
    interval = bootstrap_interval(values)
    return f"{interval.score:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def standing(leads: Sequence[float]) -> str:
    """ahead, behind, or even where the interval holds 0."""
    interval = bootstrap_interval(leads)
    return "ahead" if interval.low > 0 else "behind" if interval.high < 0 else "even"


def options() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--peer", help="an interpreter with the peers installed")
    found.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    found.add_argument("--ours", nargs="*", default=OURS, metavar="NAME[:RULE]")
    found.add_argument("--peers", nargs="*", choices=PEERS)
    found.add_argument("--seeds", type=int, default=10)
    found.add_argument("--runs", type=int, default=800, help="program runs on one example that a run may spend")
    found.add_argument("--calls", type=int, default=60, help="answers of the proposer that a run may spend")
    found.add_argument("--skill", type=float, default=0.7, help="how often the simulated proposer understands a fault")
    found.add_argument("--model", help="a local model in the place of the simulated proposer")
    found.add_argument("--reference", default="auto")
    found.add_argument("--out", type=Path)
    return found


def main() -> None:
    asked = options().parse_args()
    peers = asked.peers if asked.peers is not None else PEERS if asked.peer else ("opro",)
    kept = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out and asked.out.exists() else []
    done = {(row["task"], row["seed"], row["optimizer"]) for row in kept}
    jobs = [(task, seed) for task in asked.tasks for seed in range(asked.seeds)]
    console = Console(width=140)
    with Endpoint() as endpoint:
        bench = Bench(asked, endpoint)
        for row in measured(bench, peers, jobs, done):
            kept.append(row)
            if asked.out:
                with asked.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    for task in asked.tasks:
        rows = [row for row in kept if row["task"] == task and row["seed"] < asked.seeds]
        console.print(f"\n{task}: {asked.runs} runs, {asked.calls} calls, best possible {TASKS[task](0).best:g}")
        console.print(table(task, rows, asked.reference))


def measured(bench: Bench, peers: Sequence[str], jobs: Sequence[tuple[str, int]], done: set[Any]) -> Iterator[Row]:
    for optimizer in bench.asked.ours:
        for task, seed in jobs:
            if (task, seed, optimizer) not in done:
                yield bench.ours(optimizer, task, seed)
    for peer in peers:
        open_jobs = [(task, seed) for task, seed in jobs if (task, seed, f"peer:{peer}") not in done]
        if open_jobs:
            yield from bench.peer(peer, open_jobs)


if __name__ == "__main__":
    main()
