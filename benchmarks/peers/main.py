"""Runs one peer on jobs, a line of JSON each on standard input, and prints a line for each.

PYTHON main.py NAME, with the interpreter of an environment that has the peer.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any


def main(name: str) -> None:
    # This folder must not hide modules of the standard library or of the peers.
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    # TextGrad and Trace import litellm, which they do not use here: each is given the proposer.
    sys.modules.setdefault("litellm", types.ModuleType("litellm")).completion = None  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(sys.stderr):
        jobs = importlib.import_module("peers.job")
        peer = importlib.import_module(f"peers.{name}_peer")
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            result = done(json.loads(line), jobs.Job, peer.optimize)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def done(line: dict[str, Any], job_of: Any, optimize: Any) -> dict[str, Any]:
    """The result of one job; of one that failed the error."""
    os.environ["PEER_TASK"] = line["task"]
    job, started = job_of.of(line), time.monotonic()
    try:
        values = optimize(job)
        score = job.task.true_score(values)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    spent = {"runs": job.used_runs, "calls": job.used_calls, "seconds": round(time.monotonic() - started, 2)}
    return {"score": score, "values": dict(values), **spent}


if __name__ == "__main__":
    main(sys.argv[1])
