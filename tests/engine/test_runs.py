"""Facts: a run folder refuses what is not its own, survives a kill, and holds no secret."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import read_source
from engine.errors import ConfigError, DataError, InputError
from engine.runs import REDACTED, RunFolder, read_json, read_lines, redact, run_kind

CONFIG = {"seed": 0, "trainer": {"steps": 4, "lr": 1e-6}, "names": ["a", "b"]}


def open_run(path, **changes):
    return RunFolder.open(path, **{"kind": "rl", "config": CONFIG, **changes})


def test_a_run_folder_holds_its_files(tmp_path):
    with open_run(tmp_path / "deep" / "run") as run:
        run.log({"step": 1, "loss": 0.5})
        run.sample({"step": 1, "completion": "é\n"})
        assert read_json(run.path / "status.json")["status"] == "running"
        run.finish("done", {"accuracy": 1.0})
    assert run_kind(run.path) == "rl"
    assert read_lines(run.path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
    assert read_lines(run.path / "samples.jsonl") == [{"step": 1, "completion": "é\n"}]
    assert read_source(run.path / "config.yaml").data == CONFIG
    status = read_json(run.path / "status.json")
    assert (status["status"], status["summary"]) == ("done", {"accuracy": 1.0})


def test_rows_can_be_read_while_the_run_goes_on(tmp_path):
    with open_run(tmp_path) as run:
        run.log({"step": 1})
        assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_two_runs_of_one_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-120000")
    with open_run(None) as first, open_run(None) as second:
        assert first.path == Path("runs/rl-20260101-120000")
        assert second.path == Path("runs/rl-20260101-120000-2")


def test_a_taken_folder_is_refused(tmp_path):
    open_run(tmp_path).close()
    with pytest.raises(InputError, match="holds a run already"):
        open_run(tmp_path)


def test_resume_goes_on_where_the_run_was(tmp_path):
    with open_run(tmp_path) as run:
        assert not run.resumed
        run.log({"step": 1})
    with open_run(tmp_path, resume=True) as run:
        assert run.resumed
        run.log({"step": 2})
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_resume_where_nothing_is_begins(tmp_path):
    with open_run(tmp_path / "new", resume=True) as run:
        assert not run.resumed


def test_resume_names_the_keys_that_differ(tmp_path):
    open_run(tmp_path).close()
    changed = {**CONFIG, "trainer": {"steps": 9, "lr": 1e-6}, "extra": 1}
    with pytest.raises(ConfigError, match=r"trainer.steps: 4 there, 9 here") as error:
        open_run(tmp_path, config=changed, resume=True)
    assert "extra: '(absent)' there, 1 here" in str(error.value)
    open_run(tmp_path, config=changed, resume=True, may_differ=["trainer.steps", "extra"]).close()
    assert read_source(tmp_path / "config.yaml").data["trainer"]["steps"] == 9


def test_resume_of_another_kind_is_refused(tmp_path):
    open_run(tmp_path).close()
    with pytest.raises(InputError, match="kind 'rl', not 'optimize'"):
        open_run(tmp_path, kind="optimize", resume=True)


def test_resume_without_a_path_finds_the_newest_of_this_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no rl run of this configuration"):
        open_run(None, resume=True)
    open_run("runs/rl-1").close()
    open_run("runs/rl-2").close()
    open_run("runs/rl-3", config={"seed": 1}).close()
    for number in (1, 2, 3):
        os.utime(f"runs/rl-{number}/run.json", (number, number))
    with open_run(None, resume=True) as run:
        assert run.path == Path("runs/rl-2")


def test_rewind_drops_later_rows_of_both_files_and_keeps_rows_without_step(tmp_path):
    with open_run(tmp_path) as run:
        for step in range(4):
            run.log({"step": step})
            run.sample({"step": step, "text": "x"})
        run.log({"note": "no step"})
        assert run.rewind(1) == 4
        run.log({"step": 2, "again": True})
    assert read_lines(tmp_path / "metrics.jsonl") == [
        {"step": 0},
        {"step": 1},
        {"note": "no step"},
        {"step": 2, "again": True},
    ]
    assert [row["step"] for row in read_lines(tmp_path / "samples.jsonl")] == [0, 1]


def test_a_killed_run_can_be_resumed(tmp_path):
    code = f"""
import os, signal
from engine.runs import RunFolder
run = RunFolder.open({str(tmp_path)!r}, kind="rl", config={CONFIG!r})
for step in range(100):
    run.log({{"step": step, "text": "x" * 3000}})
run._metrics._file.write(b'{{"step": 100, "te'); run._metrics._file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == -signal.SIGKILL
    with open_run(tmp_path, resume=True) as run:
        run.rewind(49)
        run.log({"step": 50})
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == list(range(51))


def test_an_unwritable_folder_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write") as error:
        open_run(tmp_path / "file" / "run")
    assert "choose a folder" in str(error.value)


def test_the_default_folder_beside_a_file_called_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="runs"):
        open_run(None)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "run.json is missing"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("{")), "not valid JSON"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("[]")), "names no kind"),
    ],
)
def test_what_is_no_run_folder_is_said(tmp_path, prepare, message):
    prepare(tmp_path / "run")
    with pytest.raises(DataError, match=message):
        run_kind(tmp_path / "run")


SECRET = "s3cr3t-v4lue"


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": SECRET},
        {"llm": {"apiKey": SECRET}},
        {"hf_token": SECRET},
        {"password": 12345},
        {"headers": {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET}},
        {"keys": {"OPENAI_API_KEY": SECRET}},
        {"llm": [{"token": SECRET}]},
        {"credentials": {"nested": [SECRET]}},
        {"url": f"postgresql://user:{SECRET}@host/db"},
        {"url": f"https://host/v1?api_key={SECRET}&x=1"},
        {"note": "use sk-proj-abcdefghijklmnopqrstuv please"},
        {"note": f"Authorization: Bearer {SECRET}"},
    ],
)
def test_no_secret_is_written(tmp_path, config):
    open_run(tmp_path, config=config).close()
    text = (tmp_path / "config.yaml").read_text()
    assert REDACTED in text
    assert not any(secret in text for secret in (SECRET, "12345", "abcdefghijkl"))
    open_run(tmp_path, config=config, resume=True).close()


def test_ordinary_values_are_not_blacked_out():
    config = {"max_tokens": 3, "eos_token": "</s>", "tokens": 5, "monkey": "x", "token": None, "url": "http://h:1/v1#m"}
    assert redact(config) == config


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
)
keys = st.text("abcxyz_", min_size=1, max_size=6)


@given(
    config=st.dictionaries(keys, scalars | st.lists(scalars, max_size=3) | st.dictionaries(keys, scalars), max_size=4)
)
def test_any_configuration_can_be_resumed(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    open_run(path, config=config).close()
    open_run(path, config=config, resume=True).close()
