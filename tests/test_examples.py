"""The examples are short, run, and print what the README shows."""

from __future__ import annotations

import base64
import io
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from engine.testing import Server

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, cwd: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_stays_on_one_screen(path):
    assert len(path.read_text().splitlines()) <= 80


def test_a_traced_program_gives_its_value_outside_and_its_graph_inside(tmp_path):
    printed = run("trace_a_program.py", tmp_path)
    # 10 * 1.19 + 20 * 1.19 = 35.7
    assert "outside a recording: Dear customer, you owe us 35.7 EUR." in printed
    assert "total_2 = total(20.0, rate)" in printed
    heard = printed.split("what a reader is told about greeting:")[1].split("\n\n")[0]
    assert "letter_1" in heard and "total" not in heard.replace("total_", "")


def test_a_function_is_repaired_and_adopted(tmp_path):
    file = shutil.copy(ROOT / "examples" / "repair_code.py", tmp_path)  # patches are for files below the working folder
    printed = run(file, tmp_path)
    assert "tests passed: 33% -> 100%" in printed
    assert "written by the model, runs in the sandbox, and says 4 for 5 days" in printed  # 2 a day after the third
    assert "-    fee = 2 * (days - 4)\n+    fee = 2 * (days - 3)\n" in printed
    assert printed.endswith("adopted: late_fee is now the user's and runs in this process\n")


def test_a_function_gets_better_by_edits_on_islands(tmp_path):
    file = shutil.copy(ROOT / "examples" / "evolve_code.py", tmp_path)
    printed = run(file, tmp_path)
    assert "right: 1 -> 10 of 10 after 60 versions" in printed
    assert '"h": 3600' in printed and "+        total += float(number) * units[unit.lower()]" in printed


def test_outputs_are_ranked_in_place_of_scored(tmp_path):
    printed = run("rank_outputs.py", tmp_path)
    assert printed.startswith("score 0.5 -> 1 (random, evaluations)")
    assert "after:  It is to be repaired on the 7th." in printed


def test_a_picture_is_found_by_ranking_and_a_run_goes_on_where_it_was(tmp_path):
    """By a program; through the browser in tests/engine/ranking/web/test_rank_images.py."""
    whole = run("rank_images.py", tmp_path, "whole", "--auto", "--rankings=24")
    assert (
        float(re.findall(r"ranking 24, (\S+) away", whole)[0])
        < float(re.findall(r"ranking 1, (\S+) away", whole)[0]) / 3
    )
    run("rank_images.py", tmp_path, "parts", "--auto", "--rankings=7")
    rest = run("rank_images.py", tmp_path, "parts", "--auto", "--rankings=24")
    assert rest.startswith("going on after 7 rankings\nranking 8, ")
    assert (tmp_path / "whole" / "state.json").read_text() == (tmp_path / "parts" / "state.json").read_text()


def test_the_question_to_a_model_that_sees_pictures_gets_better(tmp_path):
    """It tells how large a picture is, unless it is asked for its colour; one endpoint is both models."""

    def skill(messages, request):
        content = messages[-1]["content"]
        if isinstance(content, str):
            proposals = ["How large is it?", "Which colour has it?", "Is it bright?"]
            return random.Random(request["seed"]).choice(proposals)
        image = Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition("base64,")[2])))
        if "colour" in content[1]["text"]:
            return "It is dark red." if image.getpixel((0, 0)) == (139, 0, 0) else "Red, I think."
        return f"{image.width} pixels"

    for kind, colour in (("red", (255, 0, 0)), ("dark_red", (139, 0, 0))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (8 + i, 8), colour).save(tmp_path / "data" / kind / f"{i}.png")
    with Server(skill) as server:
        model = f"{server.url}#test"
        options = ("--vlm", model, "--llm", model, "--shots=4", "--evaluations=3", "--workers=4")
        printed = run("glov_vlm.py", tmp_path, "data", *options)
    assert printed.startswith("score 0 -> 1 (glov, evaluations)")
    assert "'What is this a picture of?' -> 'Which colour has it?'" in printed
    assert re.search(r"held out: 0 .*\(n = 4\) -> 1 .*\(n = 4\)", printed)
    looks = [call.request for call in server.calls if not isinstance(call.request["messages"][-1]["content"], str)]
    files = {path.read_bytes() for path in (tmp_path / "data").rglob("*.png")}
    urls = {look["messages"][-1]["content"][0]["image_url"]["url"] for look in looks}
    assert {base64.b64decode(url.partition("base64,")[2]) for url in urls} == files  # held-out ones too, in the end
    assert all(look["max_tokens"] == 256 and look["temperature"] == 0 for look in looks)


@pytest.mark.model
def test_grpo_on_a_reward_of_ones_own(tmp_path, embedded_model):
    printed = run("train_on_your_reward.py", tmp_path)
    assert printed.count("mean reward") == 5 and "the model:" in printed


@pytest.mark.model
@pytest.mark.slow
def test_glov_steers_a_small_model_on_sentences(tmp_path, embedded_model):
    printed = run("glov_sentences.py", tmp_path)
    assert "(glov, evaluations)" in printed
    written = {kind for _, kind in re.findall(r"(\d+) (steered|unsteered|recombined): mean accuracy", printed)}
    assert written == {"steered", "unsteered", "recombined"}
