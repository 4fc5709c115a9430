"""ZO-RankSGD as a method of a run: who ranks, what a ranker is shown, and what becomes of answers that do not fit."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import rl
from engine import gallery
from engine.errors import ConfigError, DataError, InputError, NonFinite, Stopped, UnknownName
from engine.llm import ScriptedLLM
from engine.ranking import Ranking, RankingStore
from engine.ranking.desk import Desk
from engine.ranking.members import Members
from engine.ranking.web.server import running
from rl.methods import zo_ranksgd
from rl.methods._zeroth_order import Measured
from rl.run import dry_run

RANKERS = """
import threading
from engine.ranking import ProgramRanker, Ranker, Ranking

asked = []


def sevens(items, question):
    asked.append((dict(items), question))
    return {one: text.count("-> 7") for one, text in items.items()}


by_sevens = ProgramRanker(lambda items, question: {one: text.count("-> 7") for one, text in items.items()})


class Silent(Ranker):
    poll_s = 0.01

    def ask(self, items, *, question=""):
        return "0"

    def poll(self, ticket):
        return None


class Stale(Silent):
    def poll(self, ticket):
        return Ranking([["0.0123456789abcdef"]])


class Twice(Silent):
    def ask(self, items, *, question=""):
        self.ids = list(items)
        return "0"

    def poll(self, ticket):
        return Ranking([[self.ids[0]], [self.ids[0]]])


class Scores(Twice):
    def poll(self, ticket):
        return {one: 1.0 for one in self.ids}


silent, stale, twice, scores, number = Silent(), Stale(), Twice(), Scores(), 7
"""


@pytest.fixture
def rankers(tmp_path: Path) -> Path:
    path = tmp_path / "rankers.py"
    path.write_text(RANKERS, encoding="utf-8")
    return path


@pytest.fixture
def config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """Six directions through all weights, on completions whose seeds are the same for all candidates."""
    tiny_config["method"] = {
        "kind": "zo_ranksgd",
        "objective": "reward",
        "space": {"dims": 6},
        "m": 5,
        "k": 3,
        "mu": 1.0,
        "gamma": 0.5,
        "line_search": 3,
    }
    tiny_config["trainer"] |= {"lr": 2.0, "steps": 4, "save_every": 2}
    return tiny_config


def train(config: dict[str, Any], path: Path, **options: Any) -> rl.Run:
    return rl.train(config, run_dir=path, is_quiet=True, **options)


@contextmanager
def people(where: Path, taste: Callable[[dict[str, Any]], float]) -> Iterator[None]:
    """Somebody who ranks whatever lies before them by taste, until the context ends."""
    store = RankingStore(where)
    desk, members = Desk(store), Members(store)
    signed_in = members.sign_in(members.invite("somebody"))
    assert signed_in is not None
    ended = threading.Event()

    def rank() -> None:
        while not ended.wait(0.02):
            assigned = desk.next(signed_in[0])
            if assigned is not None:
                ranking = Ranking.by_score({one: taste(shown) for one, shown in assigned.candidates.values()})
                desk.submit(signed_in[0], assigned.question, f"form-{assigned.question}", ranking)

    thread = threading.Thread(target=rank)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        store.close()


def samples_only(config: dict[str, Any], ranker: Any, **settings: Any) -> dict[str, Any]:
    return config | {"rewards": [], "method": config["method"] | {"objective": "samples", "ranker": ranker} | settings}


def rows(run: rl.Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics if "points" in row]


def test_perturbations_and_line_searches_take_turns(config: dict[str, Any], tmp_path: Path):
    found = rows(train(config, tmp_path / "run"))
    assert [row["points"] for row in found[:2]] == [5, 4]
    assert [row["is_line_search"] for row in found[:2]] == [0, 1]
    assert not found[0]["is_moved"] and all("terms" not in row for row in found)


def test_only_the_order_of_the_rewards_matters(config: dict[str, Any], tmp_path: Path):
    """A weight of the reward changes every reward and no ranking."""
    heavier = config | {"rewards": [{"name": config["rewards"][0], "weight": 1000.0}]}
    plain, other = (rows(train(one, tmp_path / name)) for one, name in ((config, "a"), (heavier, "b")))
    assert [row["is_moved"] for row in plain] == [row["is_moved"] for row in other]
    assert [row["reward_mean"] * 1000 for row in plain] == pytest.approx([row["reward_mean"] for row in other])


def test_a_ranker_of_a_file_needs_no_reward_and_is_shown_what_the_model_writes(
    config: dict[str, Any], rankers: Path, tmp_path: Path
):
    told = samples_only(config, f"{rankers}:sevens", question="Where are sevens?")
    run = train(told, tmp_path / "run")
    assert len(rows(run)) == 4 and "reward_mean" not in rows(run)[0]
    asked: Any = gallery.load(f"{rankers}:asked")
    items, question = asked[0]
    assert question == "Where are sevens?" and all("=" in text and "-> " in text for text in items.values())
    assert all(re.fullmatch(r"\d+\.[0-9a-f]{16}", one) for one in items)
    assert len(set(items.values())) == len(items)


def test_candidates_that_write_the_same_are_not_asked_about(config: dict[str, Any], rankers: Path, tmp_path: Path):
    run = train(samples_only(config, f"{rankers}:stale", mu=1e-9), tmp_path / "run")
    assert [row["distinct"] for row in rows(run)] == [1.0] * 4
    assert not any(row["is_moved"] for row in rows(run))


def test_a_recorded_run_is_repeated_without_its_ranker(config: dict[str, Any], rankers: Path, tmp_path: Path):
    path = str(tmp_path / "votes.jsonl")
    behind = {"kind": "file", "ranker": f"{rankers}:sevens"}
    first = train(samples_only(config, {"kind": "recorded", "path": path, "behind": behind}), tmp_path / "first")
    again = train(samples_only(config, {"kind": "recorded", "path": path}), tmp_path / "again")
    assert any(row["ranked"] for row in rows(first))
    strip = lambda run: [{k: v for k, v in row.items() if k != "seconds"} for row in rows(run)]  # noqa: E731
    assert strip(first) == strip(again)


def test_a_language_model_may_rank(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def says(messages: Any) -> dict[str, Any]:
        shown = re.findall(r"Candidate (\w):\n((?:> .*\n?)+)", messages[1]["content"])
        return {"tiers": [[letter] for letter, text in sorted(shown, key=lambda row: -row[1].count("7"))]}

    judge = ScriptedLLM(says)
    monkeypatch.setattr("rl.rankers.resolve", lambda spec: judge)
    told = samples_only(config, {"kind": "judge", "instruction": "Most sevens.", "both_orders": True})
    run = train(told, tmp_path / "run")
    assert any(row["ranked"] for row in rows(run))
    assert {call.messages[0]["content"] for call in judge.calls} == {"Most sevens."}


def test_people_rank_through_a_store_and_the_form_that_the_run_starts(config: dict[str, Any], tmp_path: Path):
    """Who has the question before them prefers sevens; the run ends where it would by a program of that taste."""
    where = tmp_path / "rankings.sqlite"
    with people(where, lambda shown: shown["text"].count("-> 7")):
        form = {"kind": "form", "store": str(where), "settle_s": 0, "port": 0}
        by_people = train(samples_only(config, form, m=6, k=3, line_search=3), tmp_path / "people")
    sevens = tmp_path / "sevens.py"
    sevens.write_text(RANKERS, encoding="utf-8")
    by_program = train(samples_only(config, f"{sevens}:by_sevens", m=6, k=3, line_search=3), tmp_path / "program")
    assert any(row["ranked"] for row in rows(by_people))
    moved = [[row["is_moved"] for row in rows(run)] for run in (by_people, by_program)]
    assert moved[0] == moved[1] and any(moved[0])
    with RankingStore(where) as store:
        assert {vote.annotator for vote in store.votes()} == {"somebody"}
        assert running(store) is None  # the run has ended its server


def test_who_does_not_answer_is_answered_for(config: dict[str, Any], rankers: Path, tmp_path: Path):
    named = {"on_absent": "fallback", "deadline_s": 0.02, "fallback": f"{rankers}:sevens"}
    run = train(samples_only(config, f"{rankers}:silent", **named), tmp_path / "run")
    whole = train(samples_only(config, f"{rankers}:sevens"), tmp_path / "whole")
    assert [row["ranked"] for row in rows(run)] == [row["ranked"] for row in rows(whole)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"m": 10, "k": 3}, "people rank at most 9 candidates at once; m is 10"),
        ({"m": 6, "k": 3, "line_search": 9}, "line_search \\+ 1, which is 10"),
        ({"m": 6, "k": 3, "line_search": 3, "on_absent": "fallback"}, "give all, or none"),
        ({"m": 6, "k": 3, "line_search": 3, "fallback": "judge", "deadline_s": 1}, "give all, or none"),
    ],
)
def test_what_people_cannot_do_is_refused(config: dict[str, Any], changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        rl.train(samples_only(config, "form", **changes))


def test_an_answer_that_does_not_come_stops_the_run_or_is_done_without(
    config: dict[str, Any], rankers: Path, tmp_path: Path
):
    """After the stop the run goes on as if there had been none: same batches, same candidates."""
    skipped = train(
        samples_only(config, f"{rankers}:silent", deadline_s=0.02, on_absent="skip", m=2, k=1), tmp_path / "skipped"
    )
    assert [row["ranked"] for row in rows(skipped)] == [0.0] * 4

    whole = train(samples_only(config, f"{rankers}:sevens"), tmp_path / "whole")
    told = samples_only(config, f"{rankers}:answerer", deadline_s=0.02)
    text = RANKERS + "\n\nclass Answerer(ProgramRanker):\n    def poll(self, ticket):\n"
    later = "        return None if len(asked) > 2 else super().poll(ticket)\n\n\nanswerer = Answerer(sevens)\n"
    rankers.write_text(text + later, encoding="utf-8")
    with pytest.raises(Stopped, match=r"no ranking came within 0.02 s(.|\n)*--resume"):
        train(told, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "stopped"
    rankers.write_text(RANKERS + "\n\nanswerer = ProgramRanker(sevens)\n", encoding="utf-8")
    run = train(told, tmp_path / "run", resume=True)
    strip = lambda run: [{k: v for k, v in row.items() if k != "seconds"} for row in rows(run)]  # noqa: E731
    assert strip(run) == strip(whole)


def test_a_run_that_waits_for_an_answer_can_be_stopped(
    config: dict[str, Any], rankers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zo_ranksgd, "SLICE_S", 0.05)
    stop = tmp_path / "run" / "STOP"
    rankers.write_text(
        f"{RANKERS}\n\nclass Stopping(Silent):\n    def ask(self, items, *, question=''):\n"
        f"        open({str(stop)!r}, 'w').close()\n        return '0'\n\n\nstopping = Stopping()\n",
        encoding="utf-8",
    )
    with pytest.raises(Stopped, match="STOP"):
        train(samples_only(config, f"{rankers}:stopping"), tmp_path / "run")
    assert not stop.exists()


@pytest.mark.parametrize(
    ("ranker", "said"),
    [
        ("stale", r"no candidate of this round has the id '0.0123456789abcdef'"),
        ("twice", "stands twice in a ranking"),
        ("scores", r"the ranker answered \{"),
    ],
)
def test_an_answer_to_another_question_is_a_named_error(
    config: dict[str, Any], rankers: Path, tmp_path: Path, ranker: str, said: str
):
    with pytest.raises(InputError, match=said):
        train(samples_only(config, f"{rankers}:{ranker}"), tmp_path / "run")


def method(**settings: Any) -> Any:
    """The method, begun at three zeros."""
    made = zo_ranksgd.ZoRankSgd(zo_ranksgd.ZoRankSgdConfig(m=3, k=3, **settings))
    made.rate = 1.0
    made.begin({"": torch.zeros(3)})
    return made


def test_scores_of_nan():
    """A loss that is none is a fault; a candidate without any reward is one of which nothing is known."""
    for objective, losses in (("loss", [1.0, float("nan"), 2.0]), ("reward", [float("nan")] * 3)):
        made = method(objective=objective)
        made.points(0)
        state = made.state_dict()
        with pytest.raises(NonFinite, match="have no number to be ranked by"):
            made.move(0, 1.0, [Measured(loss) for loss in losses])
        assert made.state_dict() == state
    made = method(objective="reward")
    made.points(0)
    made.move(0, 1.0, [Measured(loss) for loss in (1.0, float("nan"), 2.0)])
    [levels] = made.state_dict()["history"]
    assert [len(level) for level in levels] == [1, 1] and made.metrics["ranked"] == 2


def test_so_much_noise_that_it_ranks_at_random():
    orders = set()
    for seed in range(12):
        made = zo_ranksgd.ZoRankSgd(
            zo_ranksgd.ZoRankSgdConfig(m=3, k=3, ranker={"kind": "scores", "noise": 1e9}),  # type: ignore[arg-type]
            seed=seed,
        )
        made.rate = 1.0
        made.begin({"": torch.zeros(3)})
        made.points(0)
        made.move(0, 1.0, [Measured(loss) for loss in (1.0, 2.0, 3.0)])
        orders.add(json.dumps(made.state_dict()["history"]))
    assert len(orders) > 3


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"k": 6}, ConfigError, "k is 6 and m is 5"),
        ({"offload": True}, ConfigError, "offload is false"),
        ({"space": {"dims": None}}, ConfigError, r"x has \d+ dimensions(.|\n)*method.space.dims=16"),
        ({"space": {"dims": 10**6}}, InputError, r"method.space.dims(.|\n)*1000000 dimensions(.|\n)*1 to"),
        ({"objective": "samples"}, ConfigError, "no scores to rank by"),
        ({"objective": "loss", "ranker": "judge"}, ConfigError, "objective loss samples none"),
        ({"ranker": "no/such.py:ranker"}, UnknownName, "no/such.py"),
        ({"ranker": "RANKERS:nobody"}, UnknownName, "nobody"),
        ({"ranker": "RANKERS:number"}, ConfigError, "is a int"),
        ({"ranker": "RANKERS:Silent"}, ConfigError, "the class Silent"),
        ({"ranker": {"kind": "recorded", "path": "none.jsonl"}}, DataError, "no file of rankings 'none.jsonl'"),
    ],
)
def test_named_errors(
    config: dict[str, Any], rankers: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], said: str
):
    if isinstance(change.get("ranker"), str):
        change = change | {"ranker": change["ranker"].replace("RANKERS", str(rankers))}
    config["method"] |= change
    with pytest.raises(error, match=said):
        train(config, tmp_path / "run")


def test_rates_that_change_are_refused_and_a_missing_ranker_before_any_weights(config: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"line search, and trainer\.schedule"):
        dry_run(config, ["trainer.schedule=cosine"])
    with pytest.raises(DataError, match="at method"):
        dry_run(config, ["method.ranker={kind: recorded, path: none.jsonl}"])
    assert "the reward of 8 completions" in dry_run(config)["objective"]
