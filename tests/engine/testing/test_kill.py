"""A run that is killed at any event and resumed is the run that was never stopped; a replayed one too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import Budget, Feedback, optimize, optimizers, trace
from engine.llm import OpenAILLM
from engine.llm.cache import CachedLLM
from engine.testing import FAULTS, Proposer, Server

KILLING = Path(__file__).with_name("killing.py")
FAST = {"hang_s": 0.3, "drip_s": 0.02, "retry_after_s": 0.01}
OPTIMIZERS = optimizers.names()
WITHOUT_MODEL = {"numeric", "random", "rank"}
"""Of those that have numbers and choices alone to propose."""


def killed(
    mode: str, folder: Path, optimizer: dict[str, Any], *, first: int, step: int, faults: float, seed: int
) -> Any:
    """What killing.py says of runs against a faulty server, and the faults that they met."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Server(Proposer({"x": 0.7, "mode": "b"}), faults=faults, seed=seed, **FAST) as server:
        arguments = [mode, server.url, str(folder), json.dumps(optimizer), '{"evaluations": 6, "invalid": 20}']
        command = [sys.executable, str(KILLING), *arguments, str(first), str(step)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1]), server.counts


@pytest.mark.parametrize(
    ("optimizer", "first", "step"),
    [
        *[("optoprime", 5, 13), ("opro", 1, 13), ("best_of_n", 40, 19), ("evolve", 20, 31), ("egur", 30, 19)],
        *[("instinct", 50, 23), ("numeric", 10, 17), ("rank", 2, 17)],
    ],
)
def test_a_kill_at_an_event_changes_nothing(tmp_path, spec, optimizer, first, step):
    found, faults = killed("each", tmp_path, spec(optimizer), first=first, step=step, faults=0.3, seed=first)
    assert found["differ"] == {} and len(found["kills"]) >= 2
    assert bool(faults) == (optimizer not in WITHOUT_MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_every_event_changes_nothing(tmp_path, spec, optimizer, seed):
    found, _ = killed("each", tmp_path, spec(optimizer), first=1, step=1, faults=0.3, seed=seed)
    assert found["differ"] == {} and len(found["kills"]) == found["events"]


@pytest.mark.parametrize("optimizer", ["optoprime", "opro"])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path, spec, optimizer):
    found, faults = killed("again", tmp_path, spec(optimizer), first=8, step=6, faults=0.3, seed=3)
    assert found["differ"] == [] and len(found["kills"]) >= 4 and faults


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name not in WITHOUT_MODEL])
def test_a_run_is_replayed_byte_for_byte_with_the_model_down(tmp_path, spec, optimizer):
    def run(name: str, llm: Any) -> Any:
        x, mode = trace.param(0.0, name="x", ge=0, le=1), trace.param("a", name="mode", choices=["a", "b", "c"])

        @trace.node
        def program(x, mode, example):
            return -abs(x - 0.7) + (mode == "b") - example / 100

        result = optimize(
            lambda example: program(x, mode, example),
            [1, 2, 3],
            feedback=lambda _, out: Feedback(out, f"it is {out:.3f}"),
            optimizer=spec(optimizer),
            llm=llm,
            budget=Budget(evaluations=9, invalid=30),
            run_dir=tmp_path / name,
            accept="better",
        )
        told = result.to_json()
        told["cost"].pop("seconds")
        told.pop("run_dir", None)
        return json.dumps([told, [repr(evaluation) for evaluation in result.history]]).encode()

    rates = {name: 0.3 / len(FAULTS) for name in FAULTS if name != "hang"}
    with Server(Proposer({"x": 0.7, "mode": "b"}), faults=rates, seed=4, **FAST) as server:
        llm = OpenAILLM("test", server.url)
        first = run("first", llm)
        assert server.counts
    with CachedLLM(llm.name, tmp_path / "first" / "llm.sqlite", mode="replay") as replay:
        assert run("again", replay) == first
