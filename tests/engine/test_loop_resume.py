"""A run that is killed and started again ends as one that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine import Budget, optimize, trace
from engine.errors import ConfigError, InputError, LLMUnavailable
from engine.journal import Journal
from engine.jsonfiles import read_json, read_lines
from engine.llm import ScriptedLLM
from engine.signals import terminable

PROGRAM = """
import hashlib, json, sys, time
from engine import Budget, Feedback, optimize, trace
from engine.llm import ScriptedLLM

x = trace.param(0.0, name="x", ge=0, le=1)
word = trace.param("none", name="word")

@trace.node
def judge(x, word, example):
    time.sleep(0.03)
    return -abs(x - 0.6) - abs(len(word) - 5) / 10 - example / 100

def guess(messages):
    digest = hashlib.sha256(str(messages).encode()).digest()
    if digest[2] < 40:
        return "no JSON"
    return {"reasoning": "", "suggestion": {"x": digest[0] / 255, "word": "w" * (digest[1] % 9 + 1)}}

def edit(messages):
    said = messages[-1]["content"]
    found = said.partition("#Source\\n")[2].partition("\\n")[0], guess(messages)
    return str(found[1]) if isinstance(found[1], str) else (
        f"<<<<<<< SEARCH x\\n{found[0].rpartition(' ')[2]}\\n=======\\n{found[1]['suggestion']['x']}\\n>>>>>>> REPLACE")

optimizer, folder = json.loads(sys.argv[1]), sys.argv[2]
scripts = {"optoprime": guess, "pareto": guess, "evolve": edit}
llm = ScriptedLLM(scripts.get(optimizer["kind"], lambda messages: str(guess(messages))[-9:]))
result = optimize(
    lambda example: judge(x, word, example), [1, 2, 3], feedback=lambda _, out: Feedback(out, f"it is {out:.3f}"),
    optimizer=optimizer, llm=llm, budget=Budget(evaluations=14, invalid=100), run_dir=folder, workers=2,
    accept="better", validation=[4, 5], batch_size=2,
)
"""


def start(folder: Path, optimizer: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, optimizer, str(folder)], env=environment)


def what_counts(folder: Path) -> dict[str, object]:
    """All that a run leaves but times and places."""
    result = read_json(folder / "result.json")
    result["cost"].pop("seconds")
    with Journal(folder / "journal.sqlite", read_only=True) as journal:
        rows = {kind: journal.items(kind) for kind in ("evaluation", "refused", "validation")}
    metrics = read_lines(folder / "metrics.jsonl")
    for row in metrics:
        row["spent"].pop("seconds")
    return {"result": result, "metrics": metrics, **rows}


@pytest.mark.parametrize(
    ("optimizer", "kills"),
    [
        ('{"kind": "optoprime", "examples": 1}', (0.15, 0.6, 0.3)),
        ('{"kind": "opro", "candidates": 4}', (0.4, 0.1)),
        ('{"kind": "random", "candidates": 3}', (0.2,)),
        ('{"kind": "numeric", "candidates": 3, "startup": 4}', (0.4,)),
        ('{"kind": "rank", "candidates": 3}', (0.4,)),
        ('{"kind": "pareto", "of": {"kind": "optoprime", "examples": 1}}', (0.5,)),
        ('{"kind": "evolve", "candidates": 2, "islands": 2, "migrate_every": 2}', (0.4,)),
    ],
)
def test_a_killed_run_ends_as_one_that_was_never_stopped(tmp_path, optimizer, kills):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, optimizer).wait(60) == 0
    died = 0
    for seconds in kills:
        process = start(killed, optimizer)
        while process.poll() is None and not (killed / "metrics.jsonl").exists():
            time.sleep(0.005)
        time.sleep(seconds)
        died += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert died, "every run ended before it could be killed"
    assert start(killed, optimizer).wait(60) == 0
    assert what_counts(killed) == what_counts(whole)


@trace.node
def length(text):
    return len(text)


@pytest.fixture
def run(tmp_path):
    def call(llm, name="text", **options):
        text = trace.param("a", name=name)
        options = {"budget": Budget(evaluations=4), "optimizer": "optoprime", "workers": 1, **options}
        return optimize(lambda: length(text), feedback=lambda _, out: out, llm=llm, run_dir=tmp_path / "r", **options)

    return call


def grow(messages):
    value = messages[-1]["content"].partition('text = "')[2].partition('"')[0]
    return {"reasoning": "longer", "suggestion": {"text": value + "a"}}


def test_an_endpoint_that_goes_down_loses_nothing(run, tmp_path):
    answers = iter([1, 1])

    def failing(messages):
        return grow(messages) if next(answers, None) else LLMUnavailable("the endpoint is down")

    with pytest.raises(LLMUnavailable) as caught:
        run(ScriptedLLM(failing))
    assert caught.value.exit_code == 3
    status = read_json(tmp_path / "r" / "status.json")
    assert status["status"] == "failed" and "the endpoint is down" in status["summary"]["error"]
    result = run(ScriptedLLM(grow, name="another"))
    assert result.best == {"text": "aaaaa"} and [e.step for e in result.history] == [0, 1, 2, 3, 4]
    assert result.cost.calls == 4


def test_a_finished_run_gives_its_result_again_and_goes_on_with_a_larger_budget(run):
    llm = ScriptedLLM(grow)
    first = run(llm)
    again = run(llm)
    assert again.best == first.best and len(llm.calls) == 4
    longer = run(llm, budget=Budget(evaluations=6))
    assert longer.best == {"text": "a" * 7} and len(llm.calls) == 6


def test_a_folder_of_another_search_is_refused(run, tmp_path):
    run(ScriptedLLM(grow))
    with pytest.raises(ConfigError, match=r"seed: 0 there, 1 here"):
        run(ScriptedLLM(grow), seed=1)
    with pytest.raises(InputError, match=r"has the parameters text \(text\), the program has other \(text\)"):
        run(ScriptedLLM(grow), name="other")


def test_the_record_of_calls_replays_the_run(run, tmp_path):
    from engine.llm import CachedLLM

    first = run(ScriptedLLM(grow))
    replay = CachedLLM("scripted", first.run_dir / "llm.sqlite", mode="replay")
    text = trace.param("a", name="text")
    again = optimize(
        lambda: length(text),
        feedback=lambda _, out: out,
        llm=replay,
        optimizer="optoprime",
        budget=Budget(evaluations=4),
        run_dir=tmp_path / "again",
    )
    replay.close()
    assert [e.candidate for e in again.history] == [e.candidate for e in first.history]


TERMINATED = """
import os, signal, sys
from engine import Budget, optimize, trace
from engine.optimizers import Candidate, Optimizer

x = trace.param(0.0, name="x")

class Up(Optimizer):
    needs_llm = False
    def propose(self, state, n):
        return [Candidate({"x": state.step + 0.0})]

@trace.node
def same(x: float) -> float:
    return x

def feedback(_, out):
    if out == 3 and "first" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
    return out

result = optimize(lambda: same(x), feedback=feedback, optimizer=Up(candidates=1), budget=Budget(evaluations=5),
                  run_dir=sys.argv[1], workers=1)
print(result.status, result.stopped_by, result.best["x"])
"""


def test_sigterm_stops_as_ctrl_c_does_and_the_run_goes_on_later(tmp_path):
    script = tmp_path / "up.py"
    script.write_text(TERMINATED)

    def run(*words):
        command = [sys.executable, str(script), str(tmp_path / "run"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    assert run("first") == ["stopped", "SIGTERM", "2.0"]
    assert run() == ["done", "evaluations", "5.0"]


def test_outside_of_the_main_thread_and_beside_an_own_handler_sigterm_is_left_alone(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with terminable():
        inside = signal.getsignal(signal.SIGTERM)
        assert inside is not before
        with terminable():  # somebody has said what it shall do
            assert signal.getsignal(signal.SIGTERM) is inside
    assert signal.getsignal(signal.SIGTERM) is before
    seen = []

    def other():
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [before]
