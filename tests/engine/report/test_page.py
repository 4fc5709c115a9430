"""Facts: one file without addresses or scripts, well formed, and no text of a model is markup in it."""

import json
import re
from html.parser import HTMLParser

import pytest

from engine.errors import DataError, InputError
from engine.report import write_report
from engine.runs import RunFolder, write_json

VOID = {"meta", "br", "hr", "img", "circle", "line", "path", "rect"}
ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(1)</script>",
    "'; onload='alert(1)",
    "<!-- ]]> </title></pre></svg>",
    "javascript:alert(1)",
    "\x00\x08\x1b[31m\u202e\ud800",
]


class Page(HTMLParser):
    """The open tags must close in order; tags and attributes are collected."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], set(), [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.tags.add(name)
        self.attributes += attributes
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.tags.add(name)
        self.attributes += attributes

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data


def page(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize("make", ["optimize_run", "rl_run"])
def test_the_page_needs_nothing_from_outside(make, example_runs, tmp_path):
    path = write_report(getattr(example_runs, make)(tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text()
    seen = Page(text)
    assert not seen.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert any(name == "content" and value.startswith("default-src 'none';") for name, value in seen.attributes)
    text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")  # a name, never fetched
    assert "http://" not in text and "https://" not in text and set(re.findall(r"url\((.)", text)) <= {"#"}
    assert all(value.startswith("#") for name, value in seen.attributes if name == "href")
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("make", ["optimize_run", "rl_run"])
def test_texts_in_every_field_stay_texts(make, attack, example_runs, tmp_path):
    plain = page(getattr(example_runs, make)(tmp_path / "plain"))
    attacked = page(getattr(example_runs, make)(tmp_path / "bad", text=lambda kind, text: attack))
    assert attacked.tags <= plain.tags | {"p", "del", "ins"}
    assert {name for name, _ in attacked.attributes} == {name for name, _ in plain.attributes}
    if attack.startswith("<script"):
        assert attack in attacked.text


def test_the_optimize_page_says_what_came_out(example_runs, tmp_path):
    text = page(example_runs.optimize_run(tmp_path / "run")).text
    for fact in (
        "0.52",
        "0.81",
        "95 % interval 0.74 to 0.87",
        "on 120 held-out examples",
        "best_of_n",
        "0.0421",
        "+new = 2",
    ):
        assert fact in text
    assert text.count("accepted") > 5
    assert "72" in text


def test_the_rl_page_says_what_came_out(example_runs, tmp_path):
    text = page(example_runs.rl_run(tmp_path / "run")).text
    for fact in ("held_out accuracy", "Share of groups with signal", "step-000040", "7+6=13", "Worst", "kind: grpo"):
        assert fact in text


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    for kind in ("optimize", "rl", "other"):
        RunFolder.open(tmp_path / kind, kind=kind, config={"a": 1}).close()
        assert "running" in page(tmp_path / kind).text


def test_a_failed_run_says_why(tmp_path):
    with RunFolder.open(tmp_path / "run", kind="rl", config={}) as run:
        run.finish("failed", {"error": "loss is not finite <at step 3>"})
    assert "loss is not finite <at step 3>" in page(tmp_path / "run").text


def test_strange_values_do_not_break_the_page(tmp_path):
    with RunFolder.open(tmp_path / "rl", kind="rl", config={}) as run:
        run.log({"step": 1, "reward_mean": float("nan"), "loss": "text", "eval": None})
        run.log({"step": "x", "eval": {"train": 3, "test": {"accuracy": None}}})
        run.log({"eval": {"train": {"accuracy": 0.5}}})
        run.sample({})
        run.sample({"prompt": [{"role": "user", "content": [1]}], "completion": None, "reward": "high", "step": None})
    page(tmp_path / "rl")
    with RunFolder.open(tmp_path / "o", kind="optimize", config={}) as run:
        run.log({"step": None, "best_score": None})
    result = {"validation": 3, "controls": [{"name": "a", "score": 0.5}, 3], "params": [{}, 4], "cost": 3, "diff": 3}
    write_json(tmp_path / "o" / "result.json", result)
    page(tmp_path / "o")
    write_json(tmp_path / "o" / "result.json", [1])
    page(tmp_path / "o")


def test_many_candidates_stay_a_readable_page(example_runs, tmp_path):
    path = write_report(example_runs.optimize_run(tmp_path / "run", steps=200))
    text = path.read_text()
    assert "300 more are in journal.sqlite" in text
    assert text.count('class="badge good">accepted') == 40  # none of the accepted ones is left out


def test_errors_name_what_is_missing_or_damaged(tmp_path, example_runs):
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "none")
    with pytest.raises(DataError, match=r"run\.json is missing"):
        write_report(tmp_path)
    run = example_runs.rl_run(tmp_path / "run", steps=2)
    (run / "metrics.jsonl").write_text("{}\nbroken\n{}\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:2"):
        write_report(run)
    run = example_runs.optimize_run(tmp_path / "o", steps=2)
    (run / "journal.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="not a journal"):
        write_report(run)


def test_a_report_that_cannot_be_written_is_an_input_error(tmp_path, example_runs):
    run = example_runs.rl_run(tmp_path / "run", steps=2)
    (run / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_report(run)


def test_status_json_is_read(tmp_path, example_runs):
    run = example_runs.rl_run(tmp_path / "run", steps=2)
    status = json.loads((run / "status.json").read_text())
    write_json(run / "status.json", {**status, "status": "stopped"})
    assert "stopped" in page(run).text
