"""`engine rl`: what each command prints, and one clear message for each kind of bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from engine.config import dump_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config_file(tiny_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny config as a file, with the working folder beside it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(tiny_config), encoding="utf-8")
    return path


def test_train_eval_and_resume(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rl", "train", "tiny.yaml", "trainer.steps=3"]) == 0
    trained = capsys.readouterr()
    assert "held_out" in trained.out and "before" in trained.out
    assert "4 prompts x 8 completions = 32" in trained.err
    (run,) = Path("runs").iterdir()
    assert str(run) in trained.out
    assert main(["rl", "train", "tiny.yaml", "trainer.steps=3", "--resume"]) == 0
    assert [r.name for r in Path("runs").iterdir()] == [run.name]
    for target in (run, run / "checkpoints" / "step-000003", config_file):
        assert main(["rl", "eval", str(target)]) == 0
        assert "greedy accuracy" in capsys.readouterr().out


def test_a_dry_run_prints_numbers_and_writes_nothing(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rl", "train", "tiny.yaml", "trainer.iterations=2", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "4 prompts x 8 completions = 32" in printed
    assert "4 steps, 2 a batch: 2 batches" in printed
    assert [p.name for p in config_file.parent.iterdir()] == ["tiny.yaml"]


def test_list_names_methods_with_their_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rl", "list"]) == 0
    printed = capsys.readouterr().out
    assert "grpo" in printed and "2402.03300" in printed
    assert "arithmetic" in printed and "first_line_equals" in printed


BAD: dict[str, tuple[list[str], int, list[str]]] = {
    "misspelt key": (["trainer.setps=3"], 2, ["override trainer.setps=3", "Did you mean 'steps'?"]),
    "wrong type": (["trainer.steps=ten"], 2, ["override trainer.steps=ten", "'ten'", "integer"]),
    "unknown method": (["method.kind=gpro"], 2, ["no method 'gpro'", "'grpo'?", "override method.kind=gpro"]),
    "unknown reward": (["rewards=[first_line_equal]"], 2, ["no reward", "'first_line_equals'?", "override rewards"]),
    "missing reward file": (["rewards=['absent.py:f']"], 2, ["absent.py"]),
    "no such model": (["model.name=smollm3-135m"], 2, ["smollm3-135m", "Did you mean 'smollm2-135m'?", "model.name"]),
    "a folder that is no model": (["model.name=runless"], 3, ["runless", "model.name", "next: "]),
    "missing data file": (["source={kind: jsonl, path: absent.jsonl}"], 2, ["absent.jsonl", "source"]),
    "dataset without the prompt": (
        ["source={kind: jsonl, path: rows.jsonl, prompt: question}"],
        2,
        ["rows.jsonl:1", "no column 'question'", "Did you mean 'questions'?"],
    ),
    "dataset without the answer": (
        ["source={kind: jsonl, path: rows.jsonl, prompt: questions}", "rewards=[first_line_equals]"],
        2,
        ["'answer'", "rewards"],
    ),
    "engine that is not there": (["policy.engine=vllm"], 3, ["vllm", "policy.engine"]),
    "unwritable folder": (["--run-dir", "tiny.yaml/run"], 2, ["tiny.yaml/run", "next: "]),
    "nothing to resume": (["--resume"], 2, ["no rl run of this configuration", "next: "]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_message_and_its_code(
    config_file: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, code, parts = BAD[case]
    Path("runless").mkdir()
    Path("rows.jsonl").write_text(json.dumps({"questions": "1+1="}) + "\n", encoding="utf-8")
    assert main(["rl", "train", "tiny.yaml", *arguments]) == code
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert "Traceback" not in message
    assert not Path("runs").exists()


def test_a_missing_config_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rl", "train", "gpro.yaml"]) == 2
    assert "no config 'gpro.yaml'. Did you mean 'configs/grpo.yaml'?" in capsys.readouterr().err


def test_damage_of_everything_is_said(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rl", "train", "tiny.yaml", "trainer.steps=2", "--run-dir", "run"]) == 0
    for path in Path("run/checkpoints").glob("step-*"):
        (path / "model.safetensors").unlink()
    assert main(["rl", "train", "tiny.yaml", "trainer.steps=2", "--run-dir", "run", "--resume"]) == 1
    message = capsys.readouterr().err
    assert "none of the 2 checkpoints is sound" in message
    assert "step-000001: damaged, skipped (model.safetensors: missing)" in message
    assert main(["rl", "eval", "run/checkpoints/step-000001"]) == 1


def test_help_is_light() -> None:
    program = (
        "import sys\nfrom engine.cli.main import main\nmain(['rl', '--help'])\nmain(['rl', 'train', '--help'])\n"
        "print(sorted({'torch', 'transformers', 'accelerate', 'datasets'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip().endswith("[]")
    assert "--resume" in done.stdout
