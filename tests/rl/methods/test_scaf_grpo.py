"""Scaf-GRPO: which hints are tried, what they replace, what is remembered, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import rl
from engine.errors import DataError
from rl.methods import load
from rl.methods.grpo import Grpo, GrpoConfig
from rl.methods.scaf_grpo import COLUMNS, METHOD, ScafGrpo, ScafGrpoConfig, hinted, hints_of, minimal_hint
from rl.sources.jsonl import Jsonl, JsonlConfig
from rl.types import Group, Prompt, Rollout

PARTS = {
    "knowledge_components_parts": ["k1", "k2", "k3", "k4"],
    "planning_skeleton_parts": ["p1", "p2", "p3", "p4"],
    "solution_breakdown_parts": ["s1", "s2", "s3", "the answer is 42"],
}


def problem(name: str = "p", **columns: Any) -> Prompt:
    return Prompt(name, f"Question {name}?", {"answer": "42"} | PARTS | columns)


def group(rewards: list[float | None], prompt: Prompt | None = None) -> Group:
    rollouts = [Rollout((5, 2), (-1.0, -1.0), "unaided", "stop") for _ in rewards]
    parts = {"exact": list(rewards)}
    return Group(prompt or problem(), (4,), rollouts, list(rewards), parts, ["?"] * len(rewards))


class Tools:
    """Lends samples that are rewarded where the hint in the prompt holds `helps`; keeps what was asked."""

    def __init__(self, helps: str = "", step: int = 1000) -> None:
        self.helps, self.step = helps, step
        self.source: Any = object()
        self.calls: list[list[str]] = []

    def sample(self, prompts: list[Prompt], n: int, **sampling: Any) -> list[Group]:
        assert not sampling
        self.calls.append([str(prompt.prompt) for prompt in prompts])
        rewards = [float(bool(self.helps) and self.helps in str(prompt.prompt)) for prompt in prompts]
        return [
            Group(
                p,
                (4, 9),
                [Rollout((6, 2), (-2.0, -2.0), "guided", "stop")] * n,
                [r] * n,
                {"exact": [r] * n},
                ["42"] * n,
            )
            for p, r in zip(prompts, rewards, strict=True)
        ]


def method(**settings: Any) -> ScafGrpo:
    return ScafGrpo(ScafGrpoConfig(**{"exempt_steps": 0} | settings))


def test_is_found_by_name_with_the_authors_values():
    assert load("scaf_grpo") is METHOD is ScafGrpo
    config = ScafGrpoConfig()
    assert (config.exempt_steps, config.zero_visits, config.replace, config.search) == (50, 1, 1, "parallel")
    assert (config.beta, config.clip_low, config.clip_high, config.leaks) == (0.0, 0.2, None, "refuse")
    assert config.tiers == ("knowledge", "planning", "solution")


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [([0, 0, 1, 1], ("planning", 1)), ([0.5, 0, 1, 1], ("knowledge", 1)), ([None, -1, 0, 0.1], ("planning", 2))],
)
def test_the_minimal_hint_is_the_first_with_a_reward_above_zero(rewards, expected):
    levels = [("knowledge", 1), ("knowledge", 2), ("planning", 1), ("planning", 2)]
    found = minimal_hint([(tier, level, reward) for (tier, level), reward in zip(levels, rewards, strict=True)])
    assert found is not None and found[:2] == expected


def test_there_may_be_no_minimal_hint():
    assert minimal_hint([]) is None
    assert minimal_hint([("knowledge", 1, 0.0), ("solution", 1, None), ("solution", 2, -1.0)]) is None


def test_levels_add_up_within_a_tier():
    ladder = [(h.tier, h.level, h.text) for h in hints_of(problem(), ScafGrpoConfig())]
    assert len(ladder) == 12
    assert ladder[:2] == [("knowledge", 1, "k1"), ("knowledge", 2, "k1\nk2")]
    assert ladder[4] == ("planning", 1, "p1")
    assert ladder[-1] == ("solution", 4, "s1\ns2\ns3\nthe answer is 42")


def test_the_authors_program_climbs_two_tiers():
    ladder = hints_of(problem(), ScafGrpoConfig(tiers=("knowledge", "solution")))
    assert [h.tier for h in ladder] == ["knowledge"] * 4 + ["solution"] * 4


def test_a_guided_success_takes_the_place_of_one_failure_with_its_prompt():
    tools = Tools(helps="p2")
    before = group([0.0] * 8)
    (after,) = method().prepare([before], tools)
    changed = [i for i, rollout in enumerate(after.rollouts) if rollout.text == "guided"]
    assert len(changed) == 1 and after.rewards.count(1.0) == 1 and after.rewards[changed[0]] == 1.0
    assert after.rollouts[changed[0]].prompt_ids == (4, 9)  # sampled under q + hint, so trained under it
    assert after.reward_parts["exact"] == after.rewards and after.answers[changed[0]] == "42"
    assert all(rollout.prompt_ids is None for i, rollout in enumerate(after.rollouts) if i not in changed)
    assert after.meta["hint"] == {"tier": "planning", "level": 2, "completions": changed}
    assert before.rewards == [0.0] * 8  # the batch that was sampled stays as it was
    assert after.prompt == before.prompt and after.prompt_ids == (4,)


def test_the_papers_advantages():
    """n = 8 and one guided success: +2.475 and -0.354 (unbiased std, eps -> 0)."""
    scaf = method(eps=1e-12)
    advantages = scaf.advantages(scaf.prepare([group([0.0] * 8)], Tools(helps="k1")))
    assert sorted(advantages.flatten().tolist()) == pytest.approx([-0.354] * 7 + [2.475], abs=1e-3)


def test_the_search_is_one_batch_or_stops_at_the_first_success():
    tools = Tools(helps="p2")
    method().prepare([group([0.0] * 4)], tools)
    assert [len(call) for call in tools.calls] == [12]
    tools = Tools(helps="p2")
    scaf = method(search="sequential")
    scaf.prepare([group([0.0] * 4)], tools)
    assert [len(call) for call in tools.calls] == [1] * 6  # k1 k2 k3 k4 p1 p2
    assert scaf.metrics["hints/sampled"] == 6 and scaf.metrics["hints/sampled/solution"] == 0


@pytest.mark.parametrize("helps", ["k1", "k3", "p1", "s4", "nothing"])
def test_both_searches_find_the_same_hint(helps):
    groups = [group([0.0] * 4, problem(name)) for name in "ab"]
    found = [method(search=search).prepare(groups, Tools(helps)) for search in ("parallel", "sequential")]
    assert found[0] == found[1]


def test_groups_with_a_success_or_beyond_help_stay_as_they_were():
    groups = [group([0.0, 1.0]), group([0.0, 0.0], problem("b")), group([None, None], problem("c"))]
    scaf, tools = method(), Tools(helps="")
    assert scaf.prepare(groups, tools) == groups
    assert scaf.metrics["hints/hard"] == 1 and scaf.metrics["hints/rescued"] == 0
    assert len(tools.calls[0]) == 12 and all("Question b?" in prompt for prompt in tools.calls[0])
    assert torch.equal(scaf.advantages(groups), Grpo(GrpoConfig()).advantages(groups))


def test_completions_without_a_reward_are_not_replaced():
    (after,) = method().prepare([group([None, 0.0, 0.0])], Tools(helps="k1"))
    assert after.rewards[0] is None and after.rewards.count(1.0) == 1


def test_more_than_one_success_of_the_minimal_level_may_be_taken_and_one_failure_stays():
    (after,) = method(replace=3).prepare([group([0.0] * 8)], Tools(helps="k2"))
    assert after.rewards.count(1.0) == 3 and after.meta["hint"]["level"] == 2
    (after,) = method(replace=3).prepare([group([0.0] * 2)], Tools(helps="k2"))
    assert after.rewards.count(1.0) == 1


def test_no_hints_in_the_exempt_period():
    scaf = method(exempt_steps=50)
    tools = Tools(helps="k1", step=49)
    groups = [group([0.0] * 4)]
    assert scaf.prepare(groups, tools) == groups and tools.calls == []
    assert scaf.metrics["hints/exempt"] == 1 and scaf.metrics["hints/zero_groups"] == 1
    tools.step = 50
    scaf.prepare(groups, tools)
    assert scaf.metrics["hints/exempt"] == 0 and scaf.metrics["hints/rescued/knowledge"] == 1


def test_a_problem_is_hard_after_k_visits_in_a_row_without_success():
    scaf, tools = method(zero_visits=2), Tools(helps="k1")
    for rewards, is_hinted in ([[0.0] * 4, False], [[0.0] * 4, True], [[0.0, 1.0], False], [[0.0] * 4, False]):
        scaf.prepare([group(rewards)], tools)
        assert (scaf.metrics["hints/hard"] == 1) == is_hinted
        scaf.prepare([group([0.0, 1.0], problem("another"))], tools)


def test_the_history_survives_json():
    scaf = method(zero_visits=2)
    scaf.prepare([group([0.0] * 4)], Tools())
    resumed = method(zero_visits=2)
    resumed.load_state_dict(json.loads(json.dumps(scaf.state_dict())))
    resumed.prepare([group([0.0] * 4)], Tools(helps="k1"))
    assert resumed.metrics["hints/rescued"] == 1
    assert json.loads(json.dumps(resumed.state_dict()))["needed"] == {"p": "knowledge/1"}


def test_metrics_tell_what_was_tried_by_tier_and_who_needs_no_hint_any_more():
    scaf = method()
    scaf.prepare([group([0.0] * 4, problem("a")), group([0.0, 1.0], problem("b"))], Tools(helps="s2"))
    assert scaf.metrics == pytest.approx(
        {"hints/exempt": 0, "hints/zero_groups": 1, "hints/hard": 1, "hints/rescued": 1, "hints/weaned": 0}
        | {"hints/sampled": 12} | {f"hints/sampled/{tier}": 4 for tier in ("knowledge", "planning", "solution")}
        | {"hints/rescued/knowledge": 0, "hints/rescued/planning": 0, "hints/rescued/solution": 1}
        | {"reward_unhinted": 1 / 6}
    )  # fmt: skip
    scaf.prepare([group([0.0, 1.0], problem("a")), group([0.0, 1.0], problem("b"))], Tools())
    assert scaf.metrics["hints/weaned"] == 1
    scaf.prepare([group([0.0, 1.0], problem("a"))], Tools())
    assert scaf.metrics["hints/weaned"] == 0


def test_a_hint_goes_into_a_text_or_the_last_user_message():
    (hint, *_) = hints_of(problem(), ScafGrpoConfig())
    assert hinted(problem(), hint, "{hint} | {prompt}").prompt == "k1 | Question p?"
    chat = [{"role": r, "content": c} for r, c in (("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V"))]
    given = hinted(Prompt("p", chat, PARTS), hint, "{prompt} ({tier}: {hint})").prompt
    assert [m["content"] for m in given] == ["S", "U", "A", "V (knowledge: k1)"]
    assert [m["content"] for m in chat] == ["S", "U", "A", "V"]
    with pytest.raises(DataError, match="no text to put a hint into"):
        hinted(Prompt("p", [{"role": "user", "content": [{"type": "image"}]}]), hint, "{prompt}{hint}")


def test_braces_in_a_problem_are_no_places():
    (hint, *_) = hints_of(problem(knowledge_components_parts=["{x}"]), ScafGrpoConfig())
    assert hinted(Prompt("p", "{y}"), hint, "{prompt}{hint}").prompt == "{y}{x}"


@pytest.mark.parametrize("template", ["{prompt}", "{hint}", "{prompt}{hint}{other}", "{prompt}{hint}{", "{}{}"])
def test_a_template_without_its_places_is_refused(template):
    with pytest.raises(ValidationError, match="template"):
        ScafGrpoConfig(template=template)


@pytest.mark.parametrize("part", ["It is 42.", "42", "(42)", "so 42, then", "x=42"])
@pytest.mark.parametrize("column", ["knowledge_components_parts", "planning_skeleton_parts"])
def test_a_hint_that_gives_the_answer_away_is_refused_below_the_solution(part, column):
    wrong = problem("row 7", **{column: ["fine", part]})
    with pytest.raises(DataError, match=rf"row 7: part 2 of {column} holds the final answer '42'"):
        method(exempt_steps=9).prepare([group([0.0, 1.0], wrong)], Tools(step=0))
    assert len(hints_of(wrong, ScafGrpoConfig(leaks="allow"))) == 10
    assert len(hints_of(wrong, ScafGrpoConfig(leaks="drop"))) == 9  # "fine" stays


def test_every_row_of_a_list_is_read_before_the_first_update(tmp_path: Path):
    rows = [{"prompt": "q", "answer": "42", COLUMNS["planning"]: [part]} for part in ("add", "multiply", "it is 42")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tools = Tools(step=0)
    tools.source = Jsonl(JsonlConfig(path="rows.jsonl"), near=tmp_path)
    with pytest.raises(DataError, match=r"rows.jsonl:3: part 1 of planning_skeleton_parts holds the final answer '42'"):
        method(exempt_steps=9).prepare([group([0.0, 1.0])], tools)


@pytest.mark.parametrize("part", ["142 and 421", "0.42", "42.5 or 1,42", "x42"])
def test_other_numbers_give_nothing_away(part):
    assert len(hints_of(problem(knowledge_components_parts=[part]), ScafGrpoConfig())) == 9


def test_without_an_answer_column_nobody_can_tell():
    nameless = Prompt("p", "q", PARTS)
    with pytest.raises(DataError, match="no column 'answer'"):
        hints_of(nameless, ScafGrpoConfig())
    assert len(hints_of(nameless, ScafGrpoConfig(leaks="allow"))) == 12


def test_blank_parts_and_missing_tiers_are_passed_over():
    sparse = Prompt("p", "q", {"answer": "1", "planning_skeleton_parts": ["", " a "], "solution_breakdown_parts": None})
    assert [(h.tier, h.level, h.text) for h in hints_of(sparse, ScafGrpoConfig())] == [("planning", 1, "a")]
    scaf, bare = method(), group([0.0, 0.0], Prompt("bare", "q", {"answer": "1"}))
    assert scaf.prepare([bare, group([0.0, 0.0], problem())], Tools("k1"))[0] == bare


def test_a_source_without_hints_is_refused_at_once():
    with pytest.raises(DataError, match="knowledge_components_parts, planning_skeleton_parts"):
        method(exempt_steps=9).prepare([group([1.0], Prompt("p", "q", {"answer": "1"}))], Tools(step=0))


def test_parts_must_be_a_list_of_texts():
    for value in ("one text", [1, 2], {"a": "b"}):
        with pytest.raises(DataError, match="allowed: a list of texts"):
            hints_of(problem(knowledge_components_parts=value), ScafGrpoConfig())


def test_a_run_trains_under_the_hint_and_never_evaluates_with_one(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """The tiny model's reward is 0 unless the prompt begins with a plus, which only planning and solution bring."""
    config = tiny_config | {
        "method": {"kind": "scaf_grpo", "exempt_steps": 2, "template": "{hint}{prompt}"},
        "source": {"kind": "jsonl", "path": str(Path(__file__).parents[1] / "trainers" / "hinted.jsonl")},
        "rewards": [f"{tiny_config['model']['name']}/rewards.py:needs_a_plus"],
    }
    overrides = ["trainer.iterations=2", "trainer.steps=8", "trainer.samples=32"]
    run = rl.train(config, overrides, run_dir=tmp_path / "run", is_quiet=True)
    rows = [row for row in run.metrics if "reward_mean" in row]
    assert [row["skipped"] for row in rows] == [True] * 2 + [False] * 6
    assert all(row["reward_unhinted"] == 0 and row["hints/zero_groups"] == 4 for row in rows)
    assert all(row["hints/rescued"] > 0 and row["hints/sampled"] == 16 for row in rows[2:])
    assert [row["ratio_mean"] == pytest.approx(1, abs=1e-6) for row in rows[2:]] == [True, False] * 3
    assert all(split["accuracy"] == 0 for row in run.metrics if "eval" in row for split in row["eval"].values())
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {sample["prompt"][0] == "+" for sample in samples if sample["reward"]} == {True}
    assert {sample["meta"]["hint"]["tier"] for sample in samples if sample["reward"]} <= {"planning", "solution"}
    assert {sample["prompt"][0] == "+" for sample in samples if not sample["reward"]} == {False}


@pytest.mark.model
def test_hints_rescue_problems_of_the_embedded_model(embedded_model: Path, tmp_path: Path) -> None:
    """Zero-shot sums, of which it solves next to none; knowledge: worked examples, solution: the sum itself."""
    examples = ["2+3=5", "4+4=8", "7+6=13"]
    rows = [
        {
            "prompt": f"{a}+{b}=",
            "answer": f"{a + b}",
            COLUMNS["knowledge"]: examples,
            COLUMNS["solution"]: [f"{a}+{b}={a + b}"],
        }
        for a, b in ((9, 8), (8, 6), (5, 7), (9, 9))
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "model": {"name": str(embedded_model), "autocast": "none", "lora": {"rank": 4}},
        "method": {"kind": "scaf_grpo", "exempt_steps": 1, "template": "{hint}\n{prompt}"},
        "source": {"kind": "jsonl", "path": str(tmp_path / "sums.jsonl")},
        "rewards": ["first_line_equals"],
        "policy": {"engine": "local", "completions": 4, "max_tokens": 6, "stop": ["\n"]},
        "trainer": {"steps": 2, "prompts": 4, "eval_every": 0, "save_every": 2},
    }
    exempt, guided = rl.train(config, run_dir=tmp_path / "run", is_quiet=True).metrics
    assert exempt["hints/exempt"] == 1 and exempt["hints/sampled"] == 0
    assert guided["hints/rescued"] >= 1 and guided["signal"] > exempt["signal"]
    assert guided["hints/sampled"] == 4 * guided["hints/hard"] and guided["hints/sampled/planning"] == 0
    assert guided["grad_norm"] > 0 and guided["ratio_mean"] == pytest.approx(1)
