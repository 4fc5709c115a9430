from __future__ import annotations

import json

import pytest

from engine.cli.main import main
from engine.jsonfiles import read_json

PROGRAM = """
from engine import trace

x = trace.param(0.0, name="x", ge=0, le=1)

@trace.node
def square(x, target):
    return -((x - target) ** 2)

def workflow(target):
    return square(x, target)

def score(target, output):
    return output
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "data.jsonl").write_text("0.5\n0.6\n")
    (tmp_path / "run.yaml").write_text(
        "workflow: program.py:workflow\nfeedback: program.py:score\ndata: data.jsonl\nvalidation: data.jsonl\n"
        "optimizer: random\nbudget: {evaluations: 8}\n"
    )
    return "run.yaml"


def test_a_run_prints_what_it_found_and_where_it_lies(config, capsys, tmp_path):
    assert main(["optimize", config, "controls=[random]", "--run-dir", "r"]) == 0
    out = capsys.readouterr().out
    assert "before" in out and "ended by: evaluations" in out and "run folder: r" in out and "x: 0.0 -> 0." in out
    assert (tmp_path / "r" / "report.html").is_file()
    stored = read_json(tmp_path / "r" / "result.json")
    assert stored["controls"]["random"]["score"] == stored["validation"]["score"]
    assert (tmp_path / "r" / "controls" / "random" / "result.json").is_file()


def test_the_same_folder_goes_on_where_the_budget_ended(config, capsys, tmp_path):
    assert main(["optimize", config, "--run-dir", "r"]) == 0
    assert main(["optimize", config, "budget.evaluations=16", "--run-dir", "r"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert "resuming r after step 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.yaml"], 2, "absent"),
        (["run.yaml", "optimzer=opro"], 2, "Did you mean 'optimizer'"),
        (["run.yaml", "optimizer=oprro"], 2, "Did you mean 'opro'"),
        (["run.yaml", "workflow=program.py:absent"], 2, "absent"),
        (["run.yaml", "optimizer=opro", "llm=http://127.0.0.1:9/v1#m"], 3, "127.0.0.1:9"),
        (["run.yaml", "budget.runs=1"], 4, "budget of runs"),
    ],
)
def test_bad_input_is_one_message_and_its_exit_code(config, capsys, arguments, code, message):
    assert main(["optimize", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("status", "stopped_by", "code"),
    [
        ("done", "evaluations", 0), ("done", "steps", 0), ("done", "runs", 0),
        ("done", "usd", 4), ("done", "invalid", 4), ("stopped", "interrupt", 130), ("stopped", "stop file", 75),
    ],
)  # fmt: skip
def test_exit_codes_say_how_a_search_ended(status, stopped_by, code):
    from types import SimpleNamespace

    from engine.cli.optimize import exit_code

    assert exit_code(SimpleNamespace(status=status, stopped_by=stopped_by)) == code
