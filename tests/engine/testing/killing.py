"""A program of its own: runs of optimize() that are killed at their events, resumed, and compared.

    python killing.py each|again URL FOLDER OPTIMIZER BUDGET FIRST STEP

An event is a write that a kill may come before or after: a transaction of the journal, a call put into the record of
calls, a row of metrics, a file replaced. Prints {"events": n, "kills": [k, ...], "differ": what} as JSON.
Every run is a fork of this process, which has imported everything and holds no thread or connection.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai._base_client

import engine.llm.openai
from engine import Budget, Feedback, jsonfiles, optimize, runs, trace
from engine.journal import Journal
from engine.jsonfiles import read_json, read_lines
from engine.llm import OpenAILLM
from engine.llm.cache import CachedLLM

openai._base_client.INITIAL_RETRY_DELAY = 0.005
engine.llm.openai.PAUSE_S = 0.005


class Killer:
    """Counts events; before or after the k-th the process ends as by SIGKILL from outside."""

    def __init__(self, at: int | None) -> None:
        self.at, self.events = at, 0
        for owner, name in (
            (Journal, "put"),
            (CachedLLM, "_store"),
            (runs.RunFolder, "log"),
            (jsonfiles, "write_text"),
        ):
            setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.event()
            try:
                return function(*args, **options)
            finally:
                self.event()

        return counted

    def event(self) -> None:
        self.events += 1
        if self.events == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def search(llm: OpenAILLM, folder: Path, optimizer: dict[str, Any], budget: dict[str, Any]) -> None:
    x = trace.param(0.0, name="x", ge=0, le=1)
    mode = trace.param("a", name="mode", choices=["a", "b", "c"])

    @trace.node
    def program(x: float, mode: str, example: int) -> float:
        if example == 1:
            time.sleep(0.021)  # slow enough for a record of its own
        return -abs(x - 0.7) + (mode == "b") - example / 100

    optimize(
        lambda example: program(x, mode, example),
        [1, 2, 3],
        feedback=lambda _, out: Feedback(out, f"it is {out:.3f}"),
        optimizer=optimizer,
        llm=llm,
        budget=Budget(**budget),
        run_dir=folder,
        workers=2,
        accept="better",
        validation=[4, 5],
        batch_size=2,
    )


def forked(
    at: int | None, llm: OpenAILLM, folder: Path, optimizer: dict[str, Any], budget: dict[str, Any]
) -> tuple[int, int]:
    """The exit status of a run in a process of its own, and its events."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            killer = Killer(at)
            search(llm, folder, optimizer, budget)
            os.write(write, str(killer.events).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        events = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), int(events or 0)


def what_counts(folder: Path) -> dict[str, Any]:
    """All that a run leaves but times and places."""
    result = read_json(folder / "result.json")
    result["cost"].pop("seconds")
    with Journal(folder / "journal.sqlite", read_only=True) as journal:
        rows = {kind: journal.items(kind) for kind in ("evaluation", "refused", "validation", "run")}
        state = journal.find("state", "last")
    for spent in (state["spent"], state["usage"] or {}):
        spent.pop("seconds", None)
    metrics = read_lines(folder / "metrics.jsonl")
    for row in metrics:
        row["spent"].pop("seconds")
    return {
        "result": result,
        "metrics": metrics,
        "state": state,
        "status": read_json(folder / "status.json")["status"],
        **rows,
    }


def compared(llm: OpenAILLM, base: Path, options: dict[str, Any], limits: dict[str, Any], first: int, step: int) -> Any:
    """Kills at every step-th event, each in a folder of its own."""
    whole, events = unkilled(llm, base, options, limits)
    kills = list(range(first, events + 1, step))
    differ: dict[int, Any] = {}
    for at in kills:
        folder = base / f"killed-{at}"
        killed, _ = forked(at, llm, folder, options, limits)
        resumed, _ = forked(None, llm, folder, options, limits)
        found = what_counts(folder) if resumed == 0 else {}
        unequal = [key for key in whole if found.get(key) != whole[key]]
        if killed != -signal.SIGKILL or unequal:
            differ[at] = {"killed": killed, "resumed": resumed, "unequal": unequal}
    return {"events": events, "kills": kills, "differ": differ}


def pursued(llm: OpenAILLM, base: Path, options: dict[str, Any], limits: dict[str, Any], first: int, step: int) -> Any:
    """One run that is killed again and again: every life has a few events more than the last."""
    whole, events = unkilled(llm, base, options, limits)
    kills, status = [], -signal.SIGKILL
    while status == -signal.SIGKILL and len(kills) < 100:
        kills.append(first + step * len(kills))
        status, _ = forked(kills[-1], llm, base / "killed", options, limits)
    found = what_counts(base / "killed") if status == 0 else {}
    return {"events": events, "kills": kills, "differ": [key for key in whole if found.get(key) != whole[key]]}


def unkilled(llm: OpenAILLM, base: Path, options: dict[str, Any], limits: dict[str, Any]) -> tuple[dict[str, Any], int]:
    status, events = forked(None, llm, base / "whole", options, limits)
    assert status == 0, "the run that is not killed fails"
    return what_counts(base / "whole"), events


def main(how: str, url: str, where: str, optimizer: str, budget: str, first: str, step: str) -> None:
    llm = OpenAILLM("test", url, timeout_s=5.0)  # it takes long to make, and holds no connection yet
    if "embedder" in json.loads(optimizer):
        # These take seconds, which no fork has to wait for.
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

        import engine.llm.local  # noqa: F401
    mode = {"each": compared, "again": pursued}[how]
    print(json.dumps(mode(llm, Path(where), json.loads(optimizer), json.loads(budget), int(first), int(step))))


if __name__ == "__main__":
    main(*sys.argv[1:])
