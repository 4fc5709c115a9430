from __future__ import annotations

import random

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.graph.subgraph import Subgraph
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, State, Trajectory, make


@trace.node
def scale(level, factor):
    """level times factor."""
    return level * factor


@trace.node
def shift(scaled, by):
    return scaled + by


@pytest.fixture
def program():
    level = trace.param(0.5, name="level", ge=0, le=1, description="how much")
    by = trace.param(1, name="by")
    return level, by


def trajectory(program, factor, text="too low"):
    level, by = program
    with trace.record():
        wide = trace.value(factor, name="factor")
        out = shift(scale(level, wide), by)
    feedback = Feedback(-1.0, text)
    return Trajectory(str(factor), str(out.value), feedback, Subgraph.merge(trace.backward(out, feedback).values()))


def state(program, *trajectories, history=(), notes=None):
    values = {p.name: p.value for p in program}
    found = State(program, values, list(trajectories), list(history), ScriptedLLM([]), random.Random(0))
    found.objective, found.initial, found.notes = "Hit the mark.", values, notes or {}
    return found


def prompt(program, *trajectories, history=(), notes=None, **options):
    messages = make({"kind": "optoprime", **options}).messages(
        state(program, *trajectories, history=history, notes=notes)
    )
    return messages[1]["content"]


def test_the_sections_of_the_paper_in_their_order(program):
    assert prompt(program, trajectory(program, 4)) == (
        "Hit the mark.\n\n"
        "#Code\nscale_1 = scale(level, factor)\nshift_1 = shift(scale_1, by)\n\n"
        "#Documentation\n[scale] scale(level, factor): level times factor.\n[shift] shift(scaled, by)\n\n"
        "#Variables\n(number) level = 0.5  # how much\n(integer) by = 1\n\n"
        "#Constraints\nlevel: at least 0, at most 1\n\n"
        "#Inputs\nfactor = 4\n\n"
        "#Others\nscale_1 = 2.0\n\n"
        "#Outputs\nshift_1 = 3.0\n\n"
        "#Feedback\nscore -1: too low"
    )


def test_several_runs_share_the_headings_and_the_code(program):
    text = prompt(program, trajectory(program, 4), trajectory(program, 6, "fine"))
    assert text.count("#Code") == text.count("scale_1 = scale(level, factor)") == 1
    assert "#Inputs\nrun 1:\nfactor = 4\nrun 2:\nfactor = 6\n" in text
    assert "#Feedback\nrun 1:\nscore -1: too low\nrun 2:\nscore -1: fine" in text


def evaluation(values, score, text):
    return Evaluation(Candidate(values), (0,), (Feedback(score, text),), ("",), failed=(False,))


def test_the_memory_holds_the_latest_other_values(program):
    history = [evaluation({"level": v / 10, "by": 1}, v, f"was {v}") for v in range(8)]
    text = prompt(program, trajectory(program, 4), history=history, memory=3)
    assert text.endswith(
        '#History\n{"level": 0.4, "by": 1}: score 4: was 4\n'
        '{"level": 0.6, "by": 1}: score 6: was 6\n{"level": 0.7, "by": 1}: score 7: was 7'
    )


def test_refused_proposals_are_told(program):
    assert "#Refused\n{'by': 'x'}: no integer" in prompt(program, notes={"refused": ["{'by': 'x'}: no integer"]})


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"graph": False}, ["#Code", "#Documentation", "#Inputs", "#Others", "scale"]),
        ({"feedback": False}, ["#Feedback", "too low", "was 3"]),
        ({"memory": 0}, ["#History", "was 3"]),
    ],
)
def test_ablations_take_parts_out(program, options, absent):
    history = [evaluation({"level": 0.3, "by": 1}, 3, "was 3")]
    whole = prompt(program, trajectory(program, 4), history=history)
    part = prompt(program, trajectory(program, 4), history=history, **options)
    assert all(word in whole and word not in part for word in absent)
    assert "#Variables" in part and "#Outputs" in part


def test_a_long_value_is_cut_with_a_mark_and_never_silently(program):
    text = prompt(program, Trajectory("", "x" * 900, Feedback(1.0)), max_value_characters=100)
    assert "[809 more characters]" in text
    assert "x" * 900 in prompt(program, Trajectory("", "x" * 900, Feedback(1.0)))


def test_the_answer_is_constrained_by_the_parameters_types(program):
    llm = ScriptedLLM([{"reasoning": "why", "suggestion": {"level": 0.9}}, {"reasoning": "", "suggestion": {"by": 3}}])
    given = state(program, trajectory(program, 4))
    given.llm = llm
    assert make("optoprime").propose(given, 2) == [Candidate({"level": 0.9}, "why"), Candidate({"by": 3}, "")]
    properties = llm.calls[0].schema["properties"]["suggestion"]["properties"]
    assert properties == {
        "level": {"type": "number", "minimum": 0, "maximum": 1, "description": "how much"},
        "by": {"type": "integer"},
    }
    assert llm.calls[0].n == 2


def test_a_suggestion_that_speaks_of_code_is_kept(program):
    # Trace drops a suggestion that contains "def", and takes the word TERMINATE for an order.
    text = trace.param("a", name="text")
    llm = ScriptedLLM([{"reasoning": "TERMINATE", "suggestion": {"text": "def f(): TERMINATE"}}])
    given = state([text])
    given.llm = llm
    assert make("optoprime").propose(given, 1) == [Candidate({"text": "def f(): TERMINATE"}, "TERMINATE")]


def on(examples, values, scores):
    return Evaluation(Candidate(values), tuple(examples), tuple(Feedback(s, "ranked") for s in scores))


def test_a_step_works_from_the_highest_mean_on_all_of_the_data(program):
    start = {"level": 0.5, "by": 1}
    history = [
        on((0, 1), start, (0.0, 0.4)),
        on((0, 1), {"level": 0.6, "by": 1}, (0.5, 0.1)),
        on((0, 1), {"level": 0.7, "by": 1}, (0.1, 0.5)),  # as high: the earlier one stays
        on((1,), {"level": 0.8, "by": 1}, (1.0,)),  # on a batch alone: it may be luck
    ]
    assert make("optoprime").parent(state(program, history=history)) == {"level": 0.6, "by": 1}
    even = [history[0], on((0, 1), {"level": 0.6, "by": 1}, (0.4, 0.0))]
    assert make("optoprime").parent(state(program, history=even)) == start


def test_without_a_score_of_the_start_a_step_works_from_the_held_values(program):
    win_rates = [on((0,), {"level": 0.5, "by": 1}, (None,)), on((0,), {"level": 0.6, "by": 1}, (1.0,))]
    assert make("optoprime").parent(state(program, history=win_rates)) == {"level": 0.5, "by": 1}


def test_gains_too_small_for_the_test_add_up_until_it_passes(tmp_path):
    """Three examples more and one fewer in each step: 3 of 4, 6 of 8, 9 of 12 signs; only 299/4096 is <= .1."""
    known = trace.param("w0 w1 w2 w3 w4", name="known")

    @trace.node
    def knows(known: str, word: str) -> bool:
        return word in known.split()

    words = [f"w{i}" for i in range(20)]

    def three_for_one(messages):
        present = next(line for line in messages[1]["content"].splitlines() if line.startswith("(text) known = "))
        told = present.partition(" = ")[2].strip('"').split()
        more = words[words.index(told[-1]) + 1 :][:3]
        return {"reasoning": "", "suggestion": {"known": " ".join([*told[1:], *more])}}

    result = optimize(
        lambda word: knows(known, word),
        words,
        feedback=lambda _, output: float(output),
        optimizer="optoprime",
        llm=ScriptedLLM(three_for_one),
        budget=Budget(evaluations=4),
        workers=1,
        run_dir=tmp_path / "run",
    )
    assert [e.step for e in result.history if e.accepted] == [3]
    assert result.best["known"] == " ".join(words[3:14])
