"""The comparison of optimizers runs, keeps to its budget, and its simulated proposer knows no format from another."""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
HEAD = "You answer puzzles."
COMMA = "Separate words with commas."
FAULT = "the words are not separated by commas"

PROMPTS = {
    "gepa": f"with the following instructions:\n```\n{HEAD}\n```\n## Feedback\nscore 0. {FAULT}\n\nwithin ``` blocks.",
    "textgrad": f"<VARIABLE> {HEAD} </VARIABLE> <FEEDBACK>{FAULT}</FEEDBACK> ONLY between the <IMPROVED_VARIABLE> tags",
    "openevolve": f"{FAULT}\n# Current Program\n```text\n{HEAD}\n```\n# Task\nRewrite the program",
    "trace": f'"suggestion": {{}}\n#Variables\n(str) instruction0={HEAD}\n#Feedback\n{FAULT}',
    "edits": f"<<<<<<< SEARCH\n#Source\n(text) instruction =\n```\n{HEAD}\n```\n#Runs\nfeedback = {FAULT}",
    "opro": f"text:\n{HEAD}\nscore:\n10\n{FAULT}\nWrite the text in square brackets.",
}


@pytest.fixture
def peers(monkeypatch):
    """Imports a module of the comparison; its folder stands last, since it has a trace.py as the library has."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return lambda name: importlib.import_module(f"peers.{name}")


def test_one_task_with_ours_alone(tmp_path):
    out = tmp_path / "rows.jsonl"
    asked = ["--tasks", "puzzles", "--ours", "optoprime", "optoprime:better"]
    limits = ["--seeds", "1", "--runs", "100", "--calls", "6"]
    command = [
        sys.executable,
        str(BENCHMARKS / "optimizers.py"),
        *asked,
        *limits,
        "--reference",
        "optoprime",
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=BENCHMARKS.parent)
    rows = {row["optimizer"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert set(rows) == {"optoprime", "optoprime:better", "peer:opro"}
    assert all(row["runs"] <= 100 and row["calls"] <= 6 and 0 <= row["score"] <= 1 for row in rows.values())
    assert "optoprime is" in done.stdout


@pytest.mark.parametrize("form", PROMPTS)
def test_what_a_prompt_says_is_wrong_is_understood_in_every_format(peers, form):
    """Named faults are put right with probability `skill`, by everyone's prompt alike."""
    task = peers("puzzles").Puzzles(0)
    request = {"messages": [{"role": "user", "content": PROMPTS[form]}]}
    for skill in (1.0, 0.0):
        answers = [peers("proposer").Proposer(task, seed, skill).answer(request) for seed in range(20)]
        understood = sum(f"{HEAD} {COMMA}" in answer for answer in answers)
        assert understood == 20 if skill else understood < 10


def test_the_best_two_of_scored_candidates_are_mixed(peers):
    """Half of the edits of a scored list mix its best two; scores may stand before their candidates or behind."""
    puzzles, proposer = peers("puzzles"), peers("proposer")
    texts = [f"{HEAD} {puzzles.RULES[rule][0]}" for rule in ("steps", "comma", "iso")]
    before = "\n".join(f"score: {n}\n{text}" for n, text in enumerate(texts))
    behind = "\n".join(f"{text}\nscore: {n}" for n, text in enumerate(texts))
    for shown in (before, behind):
        request = {"messages": [{"role": "user", "content": shown}]}
        answers = [proposer.Proposer(puzzles.Puzzles(0), seed).answer(request) for seed in range(60)]
        mixed = sum(puzzles.RULES["iso"][0] in a and COMMA in a for a in answers)
        assert mixed >= 15


@pytest.mark.parametrize("name", ["puzzles", "numeric", "blind", "repair", "arms"])
def test_values_survive_as_text_and_are_found_in_it(peers, name):
    task = peers("catalog").TASKS[name](3)
    values = task.start
    for _ in range(5):
        values = task.varied(values, random.Random(5))
        text = task.to_text(values)
        assert dict(task.from_text(text)) == dict(values)
        assert [dict(found) for _, _, found in task.found(f"so far\n{text}\nand so on")] == [dict(values)]


@pytest.mark.parametrize(("rules", "answer"), [((), "False"), (("and",), "True"), (("and", "right"), "False")])
def test_the_solver_does_what_its_rules_say(peers, rules, answer):
    """False and False or True: Python, which binds `and` tighter, says True; read from either end it is False."""
    example = {"kind": "logic", "given": ["False", "and", "False", "or", "True"]}
    assert peers("puzzles").answered(set(rules), example) == answer


def test_a_function_that_was_edited_elsewhere_is_soon_known_as_another(peers):
    """Any edit outside of the sites leaves a text that does not match; looking for the match must come to an end."""
    repair = peers("repair")
    source = repair.Repair(0).specs[0].value
    for line in range(len(source.splitlines())):
        lines = source.splitlines()
        lines[line] = lines[line].replace("total", "sum") + "  # edited"
        with pytest.raises(ValueError, match="does not stand in the text"):
            repair._choices("\n".join(lines))
