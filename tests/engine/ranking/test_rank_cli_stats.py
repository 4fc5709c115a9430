"""`engine rank stats` and `engine rank export`, from a store and from votes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from engine.cli import votes as commands
from engine.cli.rank import app
from engine.cli.votes_tables import printable, tables
from engine.errors import DataError
from engine.jsonfiles import json_text
from engine.ranking import Ranking
from engine.ranking.stats import summary
from tests.engine.ranking.voting import vote

VOTES = [
    vote("q", "ann", "abc", seconds=4.0, gold=Ranking([["a"], ["b"], ["c"]])),
    vote("q", "bob", "acb", seconds=8.0, gold=Ranking([["a"], ["b"], ["c"]])),
    vote("q2", "ann", "abc", original="q", repeat=1, seconds=6.0),
    vote("p", "ann", "xy", seconds=6.0, is_late=True),
    vote("p", "bob", "cannot", "xy", seconds=6.0),
]


@pytest.fixture
def from_votes(monkeypatch):
    monkeypatch.setattr(commands, "stored_votes", lambda store: VOTES)


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_the_summary_by_hand():
    found = json.loads(json_text(summary(VOTES)))
    assert {name: found[name] for name in ("questions", "votes", "late", "cannot_judge", "all_bad", "seconds")} == {
        "questions": 2, "votes": 5, "late": 1, "cannot_judge": 1, "all_bad": 0, "seconds": 6.0}  # fmt: skip
    assert found["agreement"]["questions"] == 1 and found["agreement"]["kendall_w"] == pytest.approx(0.75)
    ann, bob = found["annotators"]
    assert (ann["annotator"], ann["votes"], ann["late"], ann["repeats"], ann["steady"]) == ("ann", 3, 1, 1, 1)
    assert (ann["gold"], ann["right"], bob["right"], bob["cannot_judge"]) == (1, 1, pytest.approx(2 / 3), 1)
    assert ann["others"] == bob["others"] == pytest.approx(1 / 3)
    assert found["groups"] == [3, 2]
    assert found["strongest"][0]["id"] == "a" and found["strongest"][0]["text"] == "text of a"


def test_no_votes_are_a_summary_too():
    found = summary([])
    assert (found["votes"], found["seconds"], found["annotators"], found["strongest"]) == (0, None, [], [])
    Console(file=io.StringIO()).print(*tables(found))


def test_stats_prints_tables_or_json(from_votes):
    shown = run("stats", "store").stdout
    assert "Kendall's W" in shown and "0.75" in shown and "text of a" in shown and "too few votes" in shown
    assert "largest of 2 groups" in " ".join(shown.split())
    assert json.loads(run("stats", "store", "--json").stdout)["votes"] == 5


def test_texts_cannot_command_the_terminal():
    hostile = "[red]x[/red]\x1b[2J\n\u202eevil\x9b31m"
    found = summary([vote("q", hostile, "ab", candidates={"a": hostile, "b": "[/]"})])
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=True, color_system=None).print(*tables(found))
    assert not {"\u202e", "\x9b"} & set(out.getvalue()) and "\x1b[2J" not in out.getvalue()
    assert "[red]x[/red]" in out.getvalue() and "[/]" in out.getvalue()
    assert len(printable("a" * 100)) == 60


def test_export_writes_each_format(from_votes, tmp_path):
    done = run("export", "store", "--format", "trl", "-o", str(tmp_path / "pairs.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        ("text of a", "text of b"),
        ("text of a", "text of c"),
    ]
    assert "1 questions give no pair" in done.stderr
    [row] = map(json.loads, run("export", "store", "--format", "trl", "--chat", "--margin").stdout.splitlines()[:1])
    assert row["chosen"][0]["role"] == "assistant" and row["margin"] == pytest.approx(0.75)
    assert len(list(csv.DictReader(io.StringIO(run("export", "store", "--format", "csv").stdout)))) == 13
    assert len(run("export", "store", "--format", "jsonl").stdout.splitlines()) == 5
    assert len(run("export", "store", "--format", "jsonl", "--merged").stdout.splitlines()) == 2


def test_the_votes_of_a_store_are_read_and_no_store_is_made(tmp_path):
    store = pytest.importorskip("engine.ranking.store")
    with store.RankingStore(tmp_path / "votes.sqlite"):
        pass
    assert json.loads(run("stats", str(tmp_path / "votes.sqlite"), "--json").stdout)["votes"] == 0
    for missing in (str(tmp_path / "absent.sqlite"), f"sqlite:///{tmp_path}/absent.sqlite"):
        with pytest.raises(DataError, match="no ranking store"):
            run("export", missing, "--format", "csv")
    assert not (tmp_path / "absent.sqlite").exists()


def test_help_loads_nothing_that_counts():
    heavy = ["numpy", "scipy", "choix", "sqlalchemy", "torch", "engine.ranking.stats"]
    check = (
        "import sys, engine.cli.main as m\n"
        "assert m.main(['rank', '--help']) == 0\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "export" in done.stdout
