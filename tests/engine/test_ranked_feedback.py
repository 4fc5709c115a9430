"""optimize() by a ranker: who compares outputs drives the search, and each question is asked once."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from statistics import fmean

import pytest

from engine import Budget, optimize, trace
from engine.comparison import comparable, win_rates
from engine.errors import ConfigError, InputError
from engine.feedback import Feedback
from engine.jsonfiles import read_json, read_lines
from engine.llm import ScriptedLLM
from engine.optimizers.base import Candidate, Evaluation, Optimizer
from engine.ranking import JudgeRanker, ProgramRanker, Ranker, Ranking
from engine.schema import load

TARGET = 0.8


class Fixed(Optimizer):
    """Proposes what it was given, n at a time."""

    needs_llm = False

    def __init__(self, *proposals, n=1):
        super().__init__(candidates=n)
        self.left, self.states = list(proposals), []

    def propose(self, state, n):
        self.states.append(state)
        taken, self.left = self.left[:n], self.left[n:]
        return [Candidate(p) for p in taken]


class Asked(Ranker):
    """Remembers what it is asked; answers by the function after `slow` looks, or never where it answers None."""

    poll_s = 0.001

    def __init__(self, answer, slow=0):
        self.answer, self.questions, self.left = answer, [], []
        self.slow = slow

    def ask(self, items, *, question=""):
        self.questions.append((question, dict(items)))
        self.left.append(self.slow)
        return str(len(self.questions) - 1)

    def poll(self, ticket):
        self.left[int(ticket)] -= 1
        question, items = self.questions[int(ticket)]
        return None if self.left[int(ticket)] >= 0 else self.answer(items, question)


def nearest(items, question=""):
    """Outputs nearer to the target are better."""
    return Ranking.by_score({one: -abs(float(text) - TARGET) for one, text in items.items()})


def at_random(seed):
    rng = random.Random(seed)
    return ProgramRanker(lambda items, question: {one: rng.random() for one in items})


@pytest.fixture
def run(tmp_path):
    """optimize() of x, shown as x to each of the examples; in a folder of its own."""

    def call(ranker, examples=("a", "b"), *, name="run", start=0.0, workflow=None, **options):
        x = trace.param(start, name="x", ge=0, le=1)

        @trace.node
        def said(x, example):
            return f"{x:.6f}"

        options = {"workers": 1, "budget": Budget(evaluations=8, invalid=8), "run_dir": tmp_path / name, **options}
        return optimize(workflow or (lambda example: said(x, example)), list(examples), feedback=ranker, **options)

    return call


def scores(result):
    return [[f.scalar for f in e.feedback] for e in result.history]


def test_a_win_rate_is_the_mean_over_the_others():
    # a beats b, c and d; b and c tie and beat d
    ranking = Ranking([["a"], ["b", "c"]], ["d"])
    assert win_rates(ranking, ["a", "b", "c", "d"]) == [1, 0.5, 0.5, 0]
    assert win_rates(ranking, ["d", "b"]) == [0, 1]
    assert win_rates(ranking, ["c"]) == [0.5]


def test_a_step_is_one_question_an_example_with_the_held_values_among_the_candidates(run):
    ranker = Asked(nearest)
    result = run(ranker, optimizer=Fixed({"x": 0.7}, {"x": 0.2}, {"x": 0.75}, n=2), batch_size=2)
    first, second = ranker.questions[:2]
    assert first[0].startswith("a\n\n") and second[0].startswith("b\n\n")
    assert sorted(first[1].values()) == ["0.000000", "0.200000", "0.700000"]
    # .7 beats both others; .2 beats the start only; then .75 beats .7, which is held
    assert scores(result) == [[None, None], [1, 1], [0.5, 0.5], [1, 1]]
    assert [e.accepted for e in result.history] == [False, True, False, True]
    assert result.best == {"x": 0.75}
    assert (result.score, result.baseline) == (1, 0.5)  # .75 against 0 on both examples
    rows = read_lines(result.run_dir / "metrics.jsonl")
    assert [row.get("questions") for row in rows[:3]] == [None, 2, 2]
    assert [row["held_win_rate"] for row in rows[1:3]] == [0, 0] and [row["win_rate"] for row in rows[1:3]] == [1, 1]


def test_what_was_said_is_kept_as_samples_and_as_rankings(run):
    result = run(ProgramRanker(nearest), ["a"], optimizer=Fixed({"x": 0.7}))
    [sample] = read_lines(result.run_dir / "samples.jsonl")
    assert sample["outputs"] == {"0": "0.000000", "1": "0.700000"} and sample["step"] == 1
    assert sample["ranking"]["tiers"] == [[1], [0]]
    [recorded] = read_lines(result.run_dir / "rankings.jsonl")  # the closing question is the same one
    assert recorded["question"] == sample["question"]


@pytest.mark.parametrize("seed", range(4))
def test_a_ranker_drives_a_number_and_one_that_ranks_at_random_does_not(run, seed):
    options = {"optimizer": {"kind": "random", "candidates": 4}, "seed": seed, "budget": Budget(evaluations=40)}
    driven = run(ProgramRanker(nearest), name="driven", **options)
    assert abs(driven.best["x"] - TARGET) < 0.07 and driven.score == 1


def test_a_ranker_that_ranks_at_random_leads_nowhere(run):
    options = {"optimizer": {"kind": "random", "candidates": 4}, "budget": Budget(evaluations=40)}
    found = {
        kind: [run(make(seed), "abcdefgh", name=f"{kind}{seed}", seed=seed, validation=list("ijklmnop"), **options)
               for seed in range(6)]
        for kind, make in (("driven", lambda seed: ProgramRanker(nearest)), ("random", at_random))
    }  # fmt: skip
    off = {kind: fmean(abs(r.best["x"] - TARGET) for r in results) for kind, results in found.items()}
    assert off["driven"] < 0.05 and off["random"] > 0.2
    # held out, the win rate over the start is that of a coin
    rates = [r.validation.best.score for r in found["random"]]
    assert abs(fmean(rates) - 0.5) < 0.2
    assert all(r.validation.best.score == 1 and r.validation.baseline.score == 0.5 for r in found["driven"])


def test_a_language_model_proposes_words_and_a_judge_ranks_them(tmp_path):
    tone = trace.param("cold", name="tone")

    @trace.node
    def greet(tone, name):
        return f"a {tone} hello to {name}"

    def judge(messages):
        """The letter of the warmest candidate first."""
        text = messages[-1]["content"]
        letters = [block[0] for block in text.split("Candidate ")[1:]]
        warm = [block[0] for block in text.split("Candidate ")[1:] if "warm" in block.partition("Name the")[0]]
        return json.dumps({"tiers": [tier for tier in (warm, [one for one in letters if one not in warm]) if tier]})

    seen = []

    def propose(messages):
        seen.append(messages[-1]["content"])
        value = "warm" if len(seen) > 1 else "icy"
        return {"reasoning": "", "suggestion": {"tone": value}}

    result = optimize(
        lambda name: greet(tone, name), ["Ann", "Bob"], feedback=JudgeRanker(ScriptedLLM(judge)), workers=1,
        optimizer="optoprime", llm=ScriptedLLM(propose), budget=Budget(evaluations=2), run_dir=tmp_path / "run",
    )  # fmt: skip
    assert result.best == {"tone": "warm"} and result.score == 1
    assert "not yet compared" in seen[0] and "score 0.5" in seen[1]  # what the optimizer is told of the held values


def test_equal_outputs_tie_and_are_shown_once_or_not_at_all(run):
    x = trace.param(0.0, name="x", ge=0, le=1)
    ranker = Asked(nearest)
    result = run(ranker, [10, 1], workflow=lambda scale: str(round(scale * x.value) / scale),
                 optimizer=Fixed({"x": 0.71}, {"x": 0.74}, {"x": 0.03}, n=3))  # fmt: skip
    # scale 10: outputs 0, .7, .7, 0; scale 1: 0, 1, 1, 0
    assert [sorted(items.values()) for _, items in ranker.questions] == [["0.0", "0.7"], ["0.0", "1.0"]]
    # a tie with one and a win over two: (1/2 + 1 + 1) / 3
    assert scores(result)[1:] == [[pytest.approx(2.5 / 3)] * 2] * 2 + [[pytest.approx(0.5 / 3)] * 2]
    same = Asked(nearest)
    result = run(same, ["a"], name="same", workflow=lambda _: f"{x.value // 2}", optimizer=Fixed({"x": 1.0}))
    assert same.questions == [] and result.score == 0.5 and not result.history[1].accepted


def test_where_nobody_can_judge_there_is_no_score(run):
    def answer(items, question):
        if question.startswith("a"):
            return Ranking(unranked=list(items), cannot_judge=True, note="both are blank")
        return nearest(items)

    optimizer = Fixed({"x": 0.5}, {"x": 0.7})
    result = run(Asked(answer), optimizer=optimizer)
    assert scores(result) == [[None, None], [None, 1], [None, 1]]
    assert result.history[1].feedback[0].text == "both are blank"
    assert [e.accepted for e in result.history] == [False, True, True] and result.score == 1
    told = {t.example: t.feedback for t in optimizer.states[1].trajectories}
    assert told == {"a": Feedback(text="both are blank"), "b": Feedback(1.0)}
    blind = Asked(lambda items, question: Ranking(unranked=list(items), cannot_judge=True))
    result = run(blind, name="blind", optimizer=Fixed({"x": 0.5}), validation=["c"])
    assert result.best == {"x": 0.0} and result.score == 0.5 and result.validation.best.score == 0.5


def evaluation(scores, failed):
    feedback = tuple(Feedback(text="?") if score is None else Feedback(score) for score in scores)
    return Evaluation(Candidate({}), tuple(range(len(scores))), feedback, failed=failed)


def test_a_failure_counts_where_nobody_can_judge():
    new = evaluation([None, None, 0.2, None], (True, False, False, False))
    held = evaluation([None, None, 0.8, 0.5], (False, True, False, False))
    # failed; the held one failed; both scored; and both unscored keep their place
    assert comparable(new, held) == ([None, 0.5, 0.2, None], [0.5, None, 0.8, 0.5])


def test_a_candidate_that_fails_is_not_shown_and_not_accepted(run):
    x = trace.param(0.0, name="x", ge=0, le=1)

    def workflow(example):
        if x.value == 0.8 and example == "b":
            raise ValueError("out of range")
        return str(x.value)

    ranker = Asked(nearest)
    result = run(ranker, workflow=workflow, optimizer=Fixed({"x": 0.8}, {"x": 0.3}))
    assert [e.accepted for e in result.history] == [False, False, True]
    assert "out of range" in result.history[1].feedback[1].text
    assert scores(result)[1] == [1, None]


def test_an_optimizer_of_scores_is_told_what_holds_across_steps_and_one_of_rankings_the_win_rates(run):
    class Ranked(Fixed):
        needs = frozenset({"ranking"})

    told = {}
    for kind in (Fixed, Ranked):
        optimizer = kind({"x": 0.2}, {"x": 0.1}, {"x": 0.6}, {"x": 0.5}, {"x": 0.7}, n=2)
        run(ProgramRanker(nearest), optimizer=optimizer, name=kind.__name__)
        assert all(state.is_ranked for state in optimizer.states)
        told[kind] = {e.candidate.values["x"]: e.score for e in optimizer.states[2].history}
    assert told[Ranked] == {0.0: None, 0.2: 1, 0.1: 0.5, 0.6: 1, 0.5: 0.5}  # of their steps
    assert sorted(told[Fixed], key=told[Fixed].get) == [0.0, 0.1, 0.2, 0.5, 0.6] and told[Fixed][0.0] == 0.5


def test_scores_are_told_as_they_are(tmp_path):
    optimizer = Fixed({"x": 0.2}, {"x": 0.1})
    x = trace.param(0.0, name="x", ge=0, le=1)
    optimize(
        lambda _: x + 0.0, ["a"], feedback=lambda _, out: out, optimizer=optimizer, workers=1,
        budget=Budget(evaluations=2), run_dir=tmp_path / "run",
    )  # fmt: skip
    assert [e.score for e in optimizer.states[1].history] == [0, 0.2] and not optimizer.states[1].is_ranked


def test_where_the_start_failed_there_is_nothing_to_win_against(run):
    x = trace.param(0.0, name="x", ge=0, le=1)

    def workflow(example):
        if x.value == 0 and example in "bd":
            raise ValueError("out of range")
        return str(x.value)

    result = run(Asked(nearest), workflow=workflow, optimizer=Fixed({"x": 0.8}), validation=["c", "d"])
    assert result.best == {"x": 0.8}  # fewer failed runs
    assert scores(result)[1] == [1, 0.5]  # alone on b, where nothing is asked
    assert (result.score, result.baseline, result.validation.best.n) == (1, 0.5, 1)


def test_beyond_the_batch_the_best_candidate_and_the_held_values_alone_are_compared(run):
    ranker = Asked(nearest)
    result = run(ranker, ["a", "b", "c"], optimizer=Fixed({"x": 0.7}, {"x": 0.5}, n=2), batch_size=1)
    assert [len(items) for _, items in ranker.questions[:3]] == [3, 2, 2]
    best, other = result.history[1:]
    assert best.examples == (0, 1, 2) and best.scores == (1, 1, 1) and best.accepted
    assert len(other.examples) == 1 and other.scores == (0.5,)
    assert read_lines(result.run_dir / "metrics.jsonl")[1]["questions"] == 3


def test_the_held_out_examples_say_how_often_the_best_wins(run):
    def answer(items, question):
        return nearest(items) if question[0] in "ac" else Ranking([list(items)])

    result = run(Asked(answer), "ab", validation=["c", "d"], optimizer=Fixed({"x": 0.7}), accept="better")
    # a and c prefer it, b and d are ties
    assert result.score == 0.75 and result.baseline == 0.5
    validation = result.validation
    assert (validation.baseline.score, validation.best.score, validation.difference.score) == (0.5, 0.75, 0.25)
    assert (validation.best.low, validation.best.high, validation.baseline.low) == (0.5, 1, 0.5)
    assert read_json(result.run_dir / "result.json")["validation"]["score"] == 0.75


def history(result):
    return [(e.candidate.values, e.scores, e.outputs, e.accepted, e.step) for e in result.history]


def test_a_stopped_wait_goes_on_where_it_stopped_and_asks_nothing_twice(run, tmp_path):
    options = {"optimizer": {"kind": "random", "candidates": 3}, "budget": Budget(evaluations=9), "validation": ["v"]}
    whole, asked = Asked(nearest), []
    expected = run(whole, "abc", name="whole", **options)
    for most in (2, 5, 10, 100):  # so many answers, then none: somebody asks for a stop
        ranker = Asked(nearest)

        def answer(items, question, ranker=ranker, most=most):
            if len(asked) >= most:
                (tmp_path / "parts" / "stop").touch()
                return None
            asked.append((question, sorted(items.values())))
            return nearest(items)

        ranker.answer = answer
        result = run(ranker, "abc", name="parts", **options)
        assert result.status == ("done" if most == 100 else "stopped")
        assert most == 100 or (result.score is None or result.best == {"x": 0.0})
        (tmp_path / "parts" / "stop").unlink(missing_ok=True)
    assert len({repr(one) for one in asked}) == len(asked)
    assert sorted(map(repr, asked)) == sorted({repr((q, sorted(i.values()))) for q, i in whole.questions})
    assert history(result) == history(expected)
    assert (result.score, result.validation, result.best) == (expected.score, expected.validation, expected.best)
    rows = [read_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    drop = ("spent",)
    kept = [[{k: v for k, v in row.items() if k not in drop} for row in each] for each in rows]
    assert kept[0] == kept[1]
    samples = [read_lines(tmp_path / name / "samples.jsonl") for name in ("whole", "parts")]
    assert samples[0] == samples[1]


PROGRAM = """
import sys, time
from engine import Budget, optimize, trace
from engine.ranking import ProgramRanker

x = trace.param(0.0, name="x", ge=0, le=1)
asked = open(sys.argv[2], "a")

def rank(items, question):
    print(question.split()[0], sorted(items.values()), file=asked, flush=True)
    time.sleep(0.01)
    return {one: -abs(float(text) - 0.8) for one, text in items.items()}

result = optimize(
    lambda example: f"{x.value:.6f}", list("abcd"), feedback=ProgramRanker(rank), run_dir=sys.argv[1], workers=1,
    optimizer={"kind": "random", "candidates": 3}, budget=Budget(evaluations=30), accept="better",
)
"""


def start(folder, asked):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), str(asked)], env=environment)


def test_a_killed_run_ends_as_one_that_was_never_stopped(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, tmp_path / "once").wait(60) == 0
    for lines in (6, 20):
        process = start(killed, tmp_path / "often")
        while process.poll() is None and sum(1 for _ in _lines(tmp_path / "often")) < lines:
            time.sleep(0.002)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(killed, tmp_path / "often").wait(60) == 0
    results = [read_json(folder / "result.json") for folder in (whole, killed)]
    for result in results:
        result["cost"].pop("seconds")
    assert results[0] == results[1]
    assert read_lines(whole / "samples.jsonl") == read_lines(killed / "samples.jsonl")
    # a program that answers at once is asked again for those of one example round that were not read yet
    assert sorted({*_lines(tmp_path / "often")}) == sorted({*_lines(tmp_path / "once")})
    assert len([*_lines(tmp_path / "often")]) <= len([*_lines(tmp_path / "once")]) + 2 * 4


def _lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_a_stop_file_ends_the_wait_for_a_ranker_that_never_answers(run, tmp_path):
    timer = threading.Timer(0.3, (tmp_path / "run" / "stop").touch)
    timer.start()
    started = time.monotonic()
    result = run(Asked(lambda items, question: None), optimizer=Fixed({"x": 0.7}))
    timer.join()
    assert time.monotonic() - started < 5
    assert (result.status, result.stopped_by, result.best) == ("stopped", "stop file", {"x": 0.0})
    assert result.score == 0.5 and len(result.history) == 1  # the start against itself


def test_ctrl_c_and_a_stop_end_the_closing_wait_too(run):
    def answer(items, question):
        if question.startswith("v"):
            raise KeyboardInterrupt
        return nearest(items)

    options = {"optimizer": {"kind": "random", "candidates": 2}, "budget": Budget(evaluations=4), "validation": ["v"]}
    result = run(Asked(answer), **options)
    assert (result.status, result.stopped_by, result.validation) == ("stopped", "interrupt", None)
    assert result.score == 1
    again = run(Asked(nearest), **options)
    assert again.status == "done" and again.validation.best.score == 1 and history(again) == history(result)


def test_the_time_limit_ends_the_wait_of_a_step(run):
    result = run(
        Asked(lambda items, question: None), optimizer=Fixed({"x": 0.7}), budget=Budget(evaluations=4, seconds=0.3)
    )
    assert (result.status, result.stopped_by, result.score) == ("done", "seconds", 0.5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda items, question: Ranking([[*items, "z"]]), "z"),
        (lambda items, question: Ranking([[next(iter(items))]]), "allowed: a Ranking of the ids 0, 1"),
        (lambda items, question: "the first", "the first"),
    ],
)
def test_a_ranker_that_answers_with_other_ids_is_named(run, tmp_path, answer, said):
    with pytest.raises(InputError, match="the ranker answered") as caught:
        run(Asked(answer), optimizer=Fixed({"x": 0.7}))
    assert said in str(caught.value)
    assert read_lines(tmp_path / "run" / "rankings.jsonl") == []
    assert run(Asked(nearest), optimizer=Fixed({"x": 0.7})).best == {"x": 0.7}  # the folder goes on


@pytest.mark.parametrize(("feedback", "said"), [(7, "cannot be called"), (ProgramRanker, "the class ProgramRanker")])
def test_feedback_is_a_function_or_a_ranker(run, feedback, said):
    with pytest.raises(InputError, match=said) as caught:
        run(feedback)
    assert "anker" in str(caught.value.allowed)


def test_auto_says_which_optimizer_a_ranker_gets(run, capsys):
    result = run(ProgramRanker(nearest), budget=Budget(evaluations=24))  # numbers take no model
    assert result.optimizer == "rank" and abs(result.best["x"] - TARGET) < 0.3
    assert "optimizer: rank: a ranker compares the outputs" in capsys.readouterr().err


CONFIG = """
from engine import trace
from engine.ranking import ProgramRanker
x = trace.param(0.0, name="x", ge=0, le=1)
def workflow(example): return str(x.value)
ranker = ProgramRanker(lambda items, question: {one: float(text) for one, text in items.items()})
number = 3
"""


def test_a_config_may_name_a_ranker(tmp_path):
    (tmp_path / "program.py").write_text(CONFIG)
    (tmp_path / "data.jsonl").write_text('"a"\n"b"\n')
    text = "workflow: program.py:workflow\ndata: data.jsonl\noptimizer: random\nbudget: {evaluations: 4}\nfeedback: "
    (tmp_path / "c.yaml").write_text(f"{text}program.py:ranker\n")
    experiment = load(tmp_path / "c.yaml")
    result = optimize(experiment.workflow, optimizer=experiment.optimizer, run_dir=tmp_path / "run",
                      **experiment.arguments())  # fmt: skip
    assert result.score == 1 and result.best["x"] > 0 and not math.isnan(result.best["x"])
    (tmp_path / "c.yaml").write_text(f"{text}program.py:number\n")
    with pytest.raises(ConfigError, match=r"engine\.ranking\.Ranker"):
        load(tmp_path / "c.yaml")


class Person(Asked):
    """Takes half a minute an answer; was thought to take 20 seconds."""

    seconds_each = 20.0

    def __init__(self):
        super().__init__(nearest)

    def human_seconds(self, ticket):
        return 30.0


def test_peoples_time_is_a_budget_that_is_not_exceeded(run):
    people, steps = Person(), [{"x": x / 20} for x in range(1, 16)]
    budget = Budget(evaluations=None, human_minutes=6.2, invalid=8)
    result = run(people, optimizer=Fixed(*steps, n=1), budget=budget)
    # Two questions a step, a minute: six steps, of which the next one would not be paid for; nor is the closing one.
    assert result.stopped_by == "human_minutes" and result.cost.steps == 7
    assert len(people.questions) == 12 and result.cost.human_minutes == 6.0
    assert result.score is None and result.best == {"x": 0.3}


def test_peoples_time_is_charged_once_for_a_question_however_often_it_is_asked(run):
    people = Person()
    result = run(people, ["a"], optimizer=Fixed({"x": 0.7}), budget=Budget(evaluations=1, human_minutes=5, invalid=8))
    # The step asked 0 against .7, and so does the end: it is the same question.
    assert len(people.questions) == 1 and result.cost.human_minutes == 0.5 and result.score == 1


def test_a_resumed_run_knows_what_time_was_taken(run):
    people, steps = Person(), [{"x": x / 20} for x in range(1, 16)]
    whole = run(Person(), optimizer=Fixed(*steps), budget=Budget(evaluations=6, invalid=8), name="whole")
    run(people, optimizer=Fixed(*steps[:3]), budget=Budget(evaluations=3, invalid=8))
    (run_dir := whole.run_dir.parent / "run").joinpath("result.json").unlink(missing_ok=True)
    again = run(people, optimizer=Fixed(*steps[3:]), budget=Budget(evaluations=6, invalid=8))
    assert again.run_dir == run_dir and again.cost.human_minutes == whole.cost.human_minutes
