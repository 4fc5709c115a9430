"""EGuR: proposals from a memory of strategies, which is consolidated after each step and outlives a run."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from statistics import fmean

import pytest

from engine import Budget, optimize, optimizers, trace
from engine.errors import ConfigError, DataError, InputError, LLMUnavailable
from engine.journal import Journal
from engine.jsonfiles import read_json
from engine.llm import ScriptedLLM
from engine.optimizers._memory import Memory
from engine.record import Record

GOAL = 0.73


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Many short runs: what a power cut would leave of them does not matter here."""
    monkeypatch.setattr("os.fsync", lambda file: None)


def is_consolidation(messages):
    return "You are the Consolidator" in messages[0]["content"]


def guide(messages, salt):
    """Goes on from the best values that the memory shows, else anywhere."""
    digest = hashlib.sha256((salt + str(messages)).encode()).digest()
    shown = re.findall(r'best: score (\S+) with \{"x": ([\d.e-]+)\}', messages[1]["content"])
    if not shown:
        return {"reasoning": "anywhere", "suggestion": {"x": round(digest[0] / 255, 4)}}
    best = float(max(shown, key=lambda pair: float(pair[0]))[1])
    moved = min(1.0, max(0.0, best + (digest[0] - 128) / 2000))
    return {"reasoning": "near the best", "suggestion": {"x": round(moved, 4)}}


def consolidator(messages):
    """One new lesson of all experiences."""
    numbers = re.findall(r"^(\d+)\. strategy:", messages[1]["content"].partition("#Experiences")[2], re.M)
    lesson = {
        "entry": 0,
        "situation": "one number",
        "strategy": f"what {len(messages[1]['content'])} says",
        "outcome": "some were near",
        "evidence": [int(number) for number in numbers],
    }
    return {"reasoning": "", "updates": [lesson], "remove": []}


class Model(ScriptedLLM):
    """Plays both parts; `fails`: the number of the call that finds the endpoint down, once."""

    def __init__(self, fails=None, salt="", consolidate=consolidator):
        self.asked, self.fails = 0, fails
        choices = Counter()

        def say(messages):
            if is_consolidation(messages):
                return consolidate(messages)
            choices[str(messages)] += 1
            return guide(messages, f"{salt}/{choices[str(messages)]}")

        super().__init__(say)

    def complete(self, messages, **options):
        self.asked += 1
        if self.asked == self.fails:
            raise LLMUnavailable("the endpoint is down")
        return super().complete(messages, **options)


def run(folder, llm, evaluations=12, **options):
    x = trace.param(0.1, name="x", ge=0, le=1)

    @trace.node
    def use(x):
        return x

    return optimize(
        lambda: use(x),
        feedback=lambda _, out: -abs(out - GOAL),
        optimizer={"kind": "egur", **options},
        llm=llm,
        budget=Budget(evaluations=evaluations, invalid=200),
        run_dir=folder,
        workers=1,
    )


def told(result):
    return [(e.step, dict(e.candidate.values), e.candidate.reason, e.score, e.accepted) for e in result.history]


def consolidations(llm):
    return [call for call in llm.calls if is_consolidation(call.messages)]


def test_the_memory_grows_by_what_was_evaluated_and_is_shown_to_the_guide(tmp_path):
    llm = Model()
    result = run(tmp_path / "r", llm, memory=str(tmp_path / "m.json"))
    memory = Memory.of(read_json(tmp_path / "m.json"), "")
    first = consolidations(llm)[0].messages[1]["content"]
    step_1 = [e for e in result.history if e.step == 1]
    assert f'values: {{"x": {step_1[0].candidate.values["x"]}}}\n   score: {step_1[0].score:.4g}' in first
    assert "#Score\nthe present values have the score" in first and "strategy: anywhere" in first
    lesson = memory.entries[0]
    assert (lesson.count, lesson.scored) == (len(step_1), len(step_1))
    assert lesson.score == pytest.approx(sum(e.score for e in step_1) / len(step_1))
    assert lesson.best_score == max(e.score for e in step_1)
    last = llm.calls[-1].messages[1]["content"]
    assert "#Memory\n1. situation: one number" in last and f"evidence: {len(step_1)}, mean score" in last
    steps = result.history[-1].step
    assert len(memory.entries) == len(consolidations(llm)) == steps - 1
    assert [w.strategy for w in memory.waiting] == ["near the best"] * sum(e.step == steps for e in result.history)


def test_it_is_bounded(tmp_path):
    llm = Model()
    run(tmp_path / "r", llm, evaluations=20, memory=str(tmp_path / "m.json"), size=3, candidates=2)
    assert len(consolidations(llm)) > 5
    assert len(Memory.of(read_json(tmp_path / "m.json"), "").entries) == 3
    assert max(call.messages[1]["content"].count("situation:") for call in llm.calls) == 3


def test_a_second_run_starts_better_than_the_first_and_than_one_without_the_memory(tmp_path):
    def first_step(result):
        return fmean(e.score for e in result.history if e.step == 1)

    for salt in "abcd":
        memory = str(tmp_path / f"{salt}.json")
        first = run(tmp_path / f"{salt}1", Model(salt=salt), 8, memory=memory)
        second = run(tmp_path / f"{salt}2", Model(salt=salt + "2"), 4, memory=memory)
        alone = run(tmp_path / f"{salt}3", Model(salt=salt + "2"), 4)
        assert first_step(second) > first_step(first)
        assert first_step(second) > first_step(alone)


def test_what_waits_at_the_end_of_a_run_is_consolidated_by_the_next(tmp_path):
    memory = tmp_path / "m.json"
    run(tmp_path / "1", Model(), evaluations=4, memory=str(memory))
    waiting = Memory.of(read_json(memory), "").waiting
    assert len(waiting) == 4 and not Memory.of(read_json(memory), "").entries
    llm = Model(salt="2")
    run(tmp_path / "2", llm, evaluations=4, memory=str(memory))
    assert is_consolidation(llm.calls[0].messages) and waiting[0].values in llm.calls[0].messages[1]["content"]
    after = Memory.of(read_json(memory), "")
    assert len(after.entries) == 1 and not {w.id for w in waiting} & {w.id for w in after.waiting}


def test_lessons_are_corrected_and_removed_and_their_numbers_are_counted_here(tmp_path):
    """The second consolidation corrects entry 1 with one evaluation twice named, the third removes it."""
    rounds = iter(range(9))

    def consolidate(messages):
        number = next(rounds)
        update = {"entry": min(number, 1), "situation": "s", "strategy": f"version {number}", "outcome": "o"}
        answers = {0: [{**update, "evidence": [1, 2]}], 1: [{**update, "evidence": [2, 2]}]}
        return {"reasoning": "", "updates": answers.get(number, []), "remove": [1] if number == 2 else []}

    memory, llm, shown = tmp_path / "m.json", Model(consolidate=consolidate), []

    class Watched(Model):
        def complete(self, messages, **options):
            if not is_consolidation(messages):
                shown.append(messages[1]["content"])
            return llm.complete(messages, **options)

    run(tmp_path / "r", Watched(), evaluations=16, memory=str(memory), candidates=4)
    assert "strategy: version 0" in shown[1] and "evidence: 2," in shown[1]
    assert "strategy: version 1" in shown[2] and "version 0" not in shown[2] and "evidence: 3," in shown[2]
    assert "version" not in shown[3] and not Memory.of(read_json(memory), "").entries


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON at all",
        {"updates": []},
        {"reasoning": "", "updates": [], "remove": [7]},
        {"reasoning": "", "updates": [{"entry": 5}], "remove": []},
        {"reasoning": "", "updates": [], "remove": [], "path": "/tmp/elsewhere.json"},
        {
            "reasoning": "",
            "updates": [{"entry": 0, "situation": "x" * 9999, "strategy": "s", "outcome": "", "evidence": [1]}],
            "remove": [],
        },
        {
            "reasoning": "",
            "updates": [{"entry": 0, "situation": "s", "strategy": "s", "outcome": "", "evidence": [99]}],
            "remove": [],
        },
    ],
)
def test_a_malformed_consolidation_leaves_the_memory_as_it_is(tmp_path, answer):
    llm = Model(consolidate=lambda messages: answer)
    result = run(tmp_path / "r", llm, evaluations=8, memory=str(tmp_path / "m.json"))
    memory = Memory.of(read_json(tmp_path / "m.json"), "")
    assert len(result.history) == 9 and not memory.entries
    assert len(memory.waiting) == sum(e.step == result.history[-1].step for e in result.history)
    with Journal(tmp_path / "r" / "journal.sqlite", read_only=True) as journal:
        assert journal.find("state", "last")["optimizer"]["unusable"] == len(consolidations(llm)) > 0


def test_a_malformed_guide_is_counted_and_nothing_else(tmp_path):
    llm = ScriptedLLM(lambda messages: "nonsense")
    result = run(tmp_path / "r", llm)
    assert result.stopped_by == "invalid" and len(result.history) == 1


@pytest.mark.parametrize("fails", range(1, 8))
def test_a_run_whose_endpoint_went_down_ends_as_one_whose_did_not(tmp_path, fails):
    whole = run(tmp_path / "whole", Model(), memory=str(tmp_path / "whole.json"))
    memory = str(tmp_path / "m.json")
    with pytest.raises(LLMUnavailable):
        run(tmp_path / "r", Model(fails=fails), memory=memory)
    again = run(tmp_path / "r", Model(), memory=memory)
    assert told(again) == told(whole)
    assert read_json(memory) == read_json(tmp_path / "whole.json")


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_killed_between_the_file_and_the_state_writes_nothing_twice(tmp_path, step, monkeypatch):
    """The file holds the step already, the journal does not: the step is done again, with the same words."""
    whole = run(tmp_path / "whole", Model(), memory=str(tmp_path / "whole.json"))
    memory, save = str(tmp_path / "m.json"), Record.save_step

    def killed(record, row, *rest):
        if row["step"] == step:
            raise SystemExit
        save(record, row, *rest)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Record, "save_step", killed)
        run(tmp_path / "r", Model(), memory=memory)
    assert len(Memory.of(read_json(memory), "").waiting) > 0
    again = run(tmp_path / "r", Model(), memory=memory)
    assert told(again) == told(whole)
    assert read_json(memory) == read_json(tmp_path / "whole.json")


def test_two_runs_that_share_a_memory_both_leave_their_lessons(tmp_path):
    """The second run begins and ends while the first is under way, and is not disturbed by what that writes."""
    memory, inside = str(tmp_path / "m.json"), []

    class Nested(Model):
        def complete(self, messages, **options):
            if self.asked == 2 and not inside:
                inside.append(run(tmp_path / "2", Model(salt="2"), memory=memory))
            return super().complete(messages, **options)

    outer = run(tmp_path / "1", Nested(), memory=memory)
    alone = run(tmp_path / "3", Model())
    assert told(outer) == told(alone)
    best = {max(r.history[1:], key=lambda e: e.score).score for r in (outer, inside[0])}
    scores = {e.best_score for e in Memory.of(read_json(memory), "").entries}
    waiting = {w.score for w in Memory.of(read_json(memory), "").waiting}
    assert best <= scores | waiting


def test_a_file_that_is_no_memory_is_refused_at_once(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"entries": []}), encoding="utf-8")
    with pytest.raises(DataError, match="not a memory of strategies"):
        optimizers.make({"kind": "egur", "memory": str(tmp_path / "m.json")})
    with pytest.raises(InputError, match="folder of the memory is not there"):
        optimizers.make({"kind": "egur", "memory": str(tmp_path / "none" / "m.json")})
    with pytest.raises(ConfigError, match="memory"):
        optimizers.make({"kind": "egur", "memory": ""})
