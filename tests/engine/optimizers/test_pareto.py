"""Who is drawn as a parent, what a merge takes from whom, and what it saves."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import pytest

from engine import Budget, Feedback, optimize, optimizers, trace
from engine.acceptance import bootstrap_interval
from engine.errors import AnswerError, Stopped
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, Optimizer, State
from engine.optimizers.base import values_key
from engine.optimizers.pareto import merged


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)


def evaluation(values, scores, step=0, examples=None):
    feedback = tuple(Feedback(text="it failed") if s is None else Feedback(s) for s in scores)
    places = tuple(range(len(scores))) if examples is None else examples
    return Evaluation(Candidate(values), places, feedback, step=step, failed=tuple(s is None for s in scores))


def params(*names):
    return [trace.param("start", name=name) for name in names]


def state(history, current=None, names="ab", seed=0, llm=None):
    values = dict(history[0].candidate.values)
    return State(
        params(*names), current or values, [], history, llm, random.Random(seed), step=len(history), initial=values
    )


def pareto(**options):
    return optimizers.make({"kind": "pareto", "of": "random", **options})


def drawn(history, times=300, **options):
    optimizer = pareto(**options)
    found = [optimizer.parent(state(history, seed=seed))["a"] for seed in range(times)]
    return {name: count / times for name, count in Counter(found).items()}


def test_parents_are_drawn_by_the_number_of_examples_on_which_they_are_the_best():
    """GEPA's algorithm 2 by hand: x is the best on 3 of 4 wins, y on 1; z is beaten by x, w is the best nowhere."""
    history = [
        evaluation({"a": "start", "b": ""}, (0, 0, 0, 0)),
        evaluation({"a": "x", "b": ""}, (1, 1, 1, 0)),
        evaluation({"a": "y", "b": ""}, (0, 0, 0, 1)),
        evaluation({"a": "z", "b": ""}, (1, 1, 0, 0)),
        evaluation({"a": "w", "b": ""}, (0.5, 0.5, 0.5, 0.5)),
    ]
    shares = drawn(history)
    assert set(shares) == {"x", "y"} and abs(shares["x"] - 0.75) < 0.08


def test_each_objective_of_each_example_counts():
    history = [
        evaluation({"a": "start", "b": ""}, ({"right": 0, "short": 0},)),
        evaluation({"a": "x", "b": ""}, ({"right": 1, "short": 0},)),
        evaluation({"a": "y", "b": ""}, ({"right": 0, "short": 1},)),
        evaluation({"a": "z", "b": ""}, ({"right": 0, "short": 0.9},)),
    ]
    shares = drawn(history)
    assert set(shares) == {"x", "y"} and abs(shares["x"] - 0.5) < 0.09


def test_candidates_known_on_a_batch_alone_are_not_compared():
    history = [evaluation({"a": "start", "b": ""}, (0, 0.5)), evaluation({"a": "x", "b": ""}, (1,), examples=(0,))]
    assert set(drawn(history)) == {"start"}


def test_a_failed_run_is_worse_than_any_score():
    history = [evaluation({"a": "start", "b": ""}, (None, -3)), evaluation({"a": "x", "b": ""}, (-9, -3))]
    assert set(drawn(history)) == {"x"}


@pytest.mark.parametrize("later", [(1.0, 1.0), (None, None)])
def test_without_scores_to_compare_the_held_values_are_the_parent(later):
    said = Feedback(text="so so")
    start = Evaluation(Candidate({"a": "start", "b": ""}), (0, 1), (said, said), failed=(False, False))
    given = state([start, evaluation({"a": "x", "b": "x"}, later)], current={"a": "held", "b": "held"})
    optimizer = pareto(merge=1)
    assert optimizer.parent(given) == {"a": "held", "b": "held"}
    assert [c.reason for c in optimizer.propose(given, 3)] == ["random draw"] * 3
    failed = [evaluation({"a": "start", "b": ""}, (None, None))]
    assert optimizer.parent(state(failed)) == failed[0].candidate.values


def test_a_merge_by_hand():
    ancestor = {"kept": 0, "one": 0, "other": 0, "both": 0, "same": 0}
    better = {"kept": 0, "one": 1, "other": 0, "both": 1, "same": 3}
    other = {"kept": 0, "one": 0, "other": 2, "both": 2, "same": 3}
    assert merged(ancestor, better, other) == {"kept": 0, "one": 1, "other": 2, "both": 1, "same": 3}


def merges(history, optimizer=None, names="ab", **options):
    optimizer = optimizer or pareto(merge=1)
    return [c.values for c in optimizer.propose(state(history, names=names, **options), 1) if c.reason == "merged"]


def test_complementary_members_of_the_front_are_merged_once_and_without_a_call():
    history = [
        evaluation({"a": "start", "b": "start"}, (0, 0)),
        evaluation({"a": "x", "b": "start"}, (1, 0)),
        evaluation({"a": "start", "b": "y"}, (0, 1)),
        evaluation({"a": "worse", "b": "start"}, (0, 0.5)),
    ]
    assert merges(history) == [{"a": "x", "b": "y"}]
    history.append(evaluation({"a": "x", "b": "y"}, (0.5, 0.5)))
    assert merges(history) == [], "what was tried is not tried again, and x and y with it give themselves"


def test_the_pair_that_covers_the_most_comes_first():
    history = [
        evaluation({"a": "start", "b": "start"}, (0, 0, 0, 0)),
        evaluation({"a": "x", "b": "start"}, (1, 1, 0, 0)),
        evaluation({"a": "start", "b": "y"}, (0, 1, 1, 0)),
        evaluation({"a": "start", "b": "z"}, (0, 0, 1, 1)),
    ]
    assert all(merges(history, seed=seed) == [{"a": "x", "b": "z"}] for seed in range(10))


def test_the_ancestor_is_the_latest_common_one_also_after_a_resume():
    """Both come from p, whose `a` one of them changed again and whose `c` both kept."""
    names, start = "abc", {"a": "start", "b": "start", "c": "start"}
    p, one, two = {**start, "a": "p", "c": "p"}, {"a": "p", "b": "one", "c": "p"}, {"a": "two", "b": "start", "c": "p"}
    history, optimizer = [evaluation(start, (0, 0))], pareto(merge=0)
    for step, (parent, child, scores) in enumerate([(start, p, (0.1, 0.1)), (p, one, (1, 0)), (p, two, (0, 0.9))], 1):
        optimizer.propose(state(history, current=parent, names=names), 1)
        history.append(evaluation(child, scores, step))
        optimizer.observe(history[-1:])
    resumed = pareto(merge=1)
    resumed.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    assert merges(history, resumed, names) == [{"a": "two", "b": "one", "c": "p"}]
    # Without the lineage the start is the ancestor: both changed all that the better one changed, so nothing is new.
    assert merges(history, names=names) == []


class Failing(Optimizer):
    """Its model never gives an answer that can be used."""

    needs = frozenset({"text", "graph"})
    shown = 7

    def propose(self, state, n):
        raise AnswerError("no answer")


def test_what_the_other_needs_is_passed_on_and_its_fault_does_not_lose_the_merge():
    optimizer = optimizers.make("pareto")
    assert optimizer.needs >= {"graph", "score"} and optimizer.shown == 3 and optimizer.candidates == 1
    assert optimizer.needs_llm and not pareto().needs_llm and pareto().candidates == 8
    wrapped = pareto(merge=1)
    wrapped._inner = Failing()
    history = [
        evaluation({"a": "start", "b": "start"}, (0, 0)),
        evaluation({"a": "x", "b": "start"}, (1, 0)),
        evaluation({"a": "start", "b": "y"}, (0, 1)),
    ]
    merge, fault = wrapped.propose(state(history), 3)
    assert merge.values == {"a": "x", "b": "y"} and fault.fault == "no answer"
    with pytest.raises(AnswerError):
        wrapped.propose(state(history[:1]), 3)


PARTS = "abcd"


@trace.node
def answer(kind, *parts):
    """Of each kind of examples one part makes it right; right parts of others alone spoil what it had."""
    right = {name for name, value in zip(PARTS, parts, strict=True) if value == "right"}
    return 1.0 if kind in right else 0.0 if right else 0.5


def rewriter(seed, share=0.3):
    """Writes one part anew, and gets it right three times in ten."""
    rngs = (random.Random(f"{seed}/{i}") for i in itertools.count())

    def value(rng):
        return "right" if rng.random() < share else f"wrong {rng.random():.9f}"

    def said(messages):
        rng = next(rngs)
        if "#Variables" not in messages[-1]["content"]:
            return value(rng)
        return {"reasoning": "", "suggestion": {rng.choice(PARTS): value(rng)}}

    return ScriptedLLM(said)


CAP = 50
ARMS = {
    "merge": {"kind": "pareto", "merge": 0.5},
    "no merge": {"kind": "pareto", "merge": 0},
    "optoprime": "optoprime",
    "opro": {"kind": "opro", "crossover": 0, "candidates": 1},
}


def until_solved(optimizer, seed, folder):
    """Evaluations until all parts are right; CAP where that did not come."""
    parts = params(*PARTS)

    def solved(report):
        if any(e.score == 1.0 for e in report.evaluations):
            raise Stopped("solved")

    result = optimize(
        lambda example: answer(example, *parts),
        list(PARTS),
        feedback=lambda example, out: out,
        optimizer=optimizer,
        llm=rewriter(seed),
        budget=Budget(evaluations=CAP, invalid=200),
        accept="better",
        workers=1,
        seed=seed,
        run_dir=folder,
        callbacks=[solved],
    )
    assert result.front == []
    return next((i for i, e in enumerate(result.history) if e.score == 1.0), CAP)


def test_a_merge_finds_what_helps_all_examples_in_fewer_evaluations(tmp_path):
    found = {
        name: [until_solved(arm, seed, tmp_path / f"{name}-{seed}") for seed in range(8)] for name, arm in ARMS.items()
    }
    for other in ("no merge", "optoprime", "opro"):
        saved = [b - a for a, b in zip(found["merge"], found[other], strict=True)]
        assert bootstrap_interval(saved).low > 0, (other, found)


def test_the_front_of_several_objectives_is_in_the_result_and_in_the_report(tmp_path):
    """The longer a text the more is said and the less is it short: 'a' and 'aaaa' are ends, 'aa b' is dominated."""
    text = trace.param("a", name="text")
    answers = iter(["aaaa", "bb b", "aa"])
    result = optimize(
        lambda example: text.value,
        [1, 2],
        feedback=lambda example, out: Feedback({"said": out.count("a") / example, "short": -len(out)}, "<b>so</b>"),
        optimizer={"kind": "pareto", "of": "optoprime"},
        llm=ScriptedLLM(lambda messages: {"reasoning": "", "suggestion": {"text": next(answers)}}),
        budget=Budget(evaluations=3),
        run_dir=tmp_path / "run",
        workers=1,
    )
    assert [e.candidate.values["text"] for e in result.front] == ["a", "aaaa", "aa"]
    written = json.loads((result.run_dir / "result.json").read_text())["front"]
    assert written[1] == {"step": 1, "values": {"text": "aaaa"}, "objectives": {"said": 3.0, "short": -4.0}}
    page = result.report().read_text()
    table = page.partition('id="front"')[2].partition("</section>")[0]
    assert "said" in table and "aaaa" in table and "bb b" not in table


@pytest.mark.parametrize("is_blind", [False, True])
def test_lineage_is_what_happened_in_the_loop(tmp_path, is_blind):
    """Every candidate's recorded parents were evaluated before it; a merge has two. So inside the placebo too."""
    parts = params(*PARTS)
    outer = inner = optimizers.make({"kind": "pareto", "merge": 0.5})
    if is_blind:
        outer = optimizers.make({"kind": "placebo", "of": {"kind": "pareto", "merge": 0.5}})
        inner = outer._inner
    result = optimize(
        lambda example: answer(example, *parts),
        list(PARTS),
        feedback=lambda example, out: out,
        optimizer=outer,
        llm=rewriter(0),
        budget=Budget(evaluations=20, invalid=50),
        workers=1,
        run_dir=tmp_path / "run",
    )
    keys = [values_key(e.candidate.values) for e in result.history]
    parents = inner.state_dict()["parents"]
    assert list(parents) == keys[1:]
    assert all(keys.index(p) < keys.index(key) for key, found in parents.items() for p in found)
    two = [e.candidate.reason for e in result.history[1:] if len(parents[values_key(e.candidate.values)]) == 2]
    assert two and set(two) == {"merged"}
