from __future__ import annotations

import random

import pytest

from engine import Feedback, trace
from engine.budget import LimitReached
from engine.errors import ParamError
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, State, make
from engine.optimizers._answers import read_choice, read_value
from engine.optimizers._turns import spoken
from engine.optimizers.opro import Scale, ranking


def evaluation(score, failed=False, **values):
    feedback = Feedback(text="error") if failed else Feedback(score)
    return Evaluation(Candidate(values), (0,), (feedback,), ("",), failed=(failed,))


def state(params, history, llm=None, step=1, seed=0):
    values = {p.name: p.value for p in params}
    return State(params, values, [], history, llm, random.Random(seed), step=step, objective="Be kind.", initial=values)


def text(name="text"):
    return trace.param("start", name=name, description="a greeting")


def opro(**options):
    return make({"kind": "opro", "explore": 0, **options})


def test_the_best_twenty_are_told_in_ascending_order():
    history = [evaluation(v / 100, text=f"value {v}") for v in random.Random(0).sample(range(50), 50)]
    llm = ScriptedLLM(["a new value"])
    found = opro().propose(state([text()], history, llm), 1)
    assert [c.values for c in found] == [{"text": "a new value"}]
    system, *turns = llm.calls[0].messages
    assert "Be kind." in system["content"] and all("a greeting" in turn["content"] for turn in turns[::2])
    shown = [(a["content"], b["content"]) for a, b in zip(turns[:-1:2], turns[1::2], strict=True)]
    assert [
        said.endswith(f"{v}.") and value == f"value {v}" for (said, value), v in zip(shown, range(30, 50), strict=True)
    ]
    assert (
        turns[-1]["role"] == "user" and "51" in turns[-1]["content"]
    )  # best .49, a tenth of .30-.49 or at least .02 more


def test_each_parameter_is_asked_for_in_a_call_of_its_own_and_new_in_every_candidate():
    params = [trace.param("start", name=name, description=f"text {name}") for name in ("one", "two")]
    history = [evaluation(0.5, one="start", two="start")]
    llm = ScriptedLLM(lambda messages: "for one" if "text one" in str(messages) else "for two")
    found = opro(crossover=0).propose(state(params, history, llm), 4)
    assert [dict(c.values) for c in found] == [{"one": "for one", "two": "for two"}] * 4
    assert [call.n for call in llm.calls] == [4, 4]


def test_the_best_of_each_parameter_are_recombined_without_a_call():
    params = [text("one"), text("two")]
    history = [
        evaluation(0.9, one="good", two="bad"),
        evaluation(0.8, one="bad", two="good"),
        evaluation(0.1, one="bad", two="bad"),
    ]
    found = opro(crossover=1).propose(state(params, history, ScriptedLLM([])), 1)
    assert [dict(c.values) for c in found] == [{"one": "good", "two": "good"}]


def test_the_first_candidates_explore_and_see_no_scores():
    llm = ScriptedLLM(lambda messages: f"idea {len(str(messages))}")
    optimizer = make({"kind": "opro", "explore": 8})
    optimizer.propose(state([text()], [evaluation(0.5, text="start")], llm), 8)
    assert "core" not in str(llm.calls[0].messages)
    later = [evaluation(0.5, text=f"v{i}") for i in range(9)]
    optimizer.propose(state([text()], later, llm), 8)
    assert "core 50" in str(llm.calls[1].messages)


def test_ranking_takes_the_best_score_of_a_value_and_leaves_failures_out():
    history = [evaluation(0.2, text="a"), evaluation(0.7, text="a"), evaluation(0.5, text="b")]
    history.append(evaluation(0, failed=True, text="c"))
    assert ranking(history, "text") == [("b", 0.5), ("a", 0.7)]


def test_scores_are_told_short():
    assert [Scale([0.5, 0.753])(v) for v in (0.5, 0.753)] == ["50", "75"]
    assert Scale([0.5, 1.0]).next() == "100"
    assert Scale([-3.0, -1.0]).next() == "-0.8"
    assert Scale([7.0]).next() == "7.7"


def test_an_answer_that_is_no_value_is_a_candidate_with_a_fault():
    number = trace.param(3, name="number", ge=0, le=5)
    llm = ScriptedLLM(["4.", "none at all", "9", '"2"'])
    found = opro().propose(state([number], [evaluation(0.5, number=3)], llm), 4)
    assert [dict(c.values) for c in found if not c.fault] == [{"number": 4}, {"number": 2}]
    assert len([c for c in found if c.fault]) == 2


def test_what_was_asked_for_before_the_budget_ended_is_kept():
    class Short(ScriptedLLM):
        def complete(self, messages, **options):
            if self.calls:
                raise LimitReached("calls", "spent")
            return super().complete(messages, **options)

    params = [text("one"), text("two")]
    history = [evaluation(0.5, one="start", two="start")]
    found = opro(crossover=0).propose(state(params, history, Short(["x", "y"])), 2)
    assert [dict(c.values) for c in found] == [{"one": "x"}, {"one": "y"}]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (trace.param("a", name="t"), 'say "hello" twice'),
        (trace.param("a", name="t"), "two\nlines"),
        (trace.param(1.5, name="n"), -2.5e-3),
        (trace.param(1, name="i"), 12),
        (trace.param(True, name="f"), False),
        (trace.param("x", name="c", choices=["x", "a b"]), "a b"),
        (trace.param({"a": [1]}, name="j"), {"b": [None, "ü"]}),
    ],
)
def test_a_value_said_as_an_answer_is_read_back(param, value):
    assert read_value(param, spoken(param, value)) == value


def test_quotes_around_an_answer_are_taken_off():
    assert read_value(text(), ' "a kind word"\n') == "a kind word"
    assert read_value(text(), "it's") == "it's"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("<think>short? no</think>\nBe kind.", "Be kind."),
        ("thoughts of a template</think> Be kind.", "Be kind."),
        ("Think in <think> and </think>, then say it.", "Think in <think> and </think>, then say it."),
        ("<think>a</think>Put thoughts in <think></think>.", "Put thoughts in <think></think>."),
        ("```\nBe kind.\n```", "Be kind."),
        ("```text\nBe `kind`.```", "Be `kind`."),
        ("```a``` and ```b``` too", "```a``` and ```b``` too"),
    ],
)
def test_thoughts_and_a_fence_around_an_answer_are_no_part_of_it(answer, value):
    assert read_value(text(), answer) == value


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<think>It should be 0.7, or", "ends inside <think>"),
        (" <reasoning>0.7", "ends inside <reasoning>"),
        ("<think>0.7</think>", "is empty"),
        ("```", "is empty"),
        ("```text\n```", "is empty"),
        ("half\ud800", "halves of surrogate pairs"),
    ],
)
def test_answers_that_hold_no_value_are_refused(answer, reason):
    with pytest.raises(ParamError) as caught:
        read_value(text(), answer)
    assert reason in str(caught.value)


def test_a_number_in_thoughts_is_not_the_answer():
    number = trace.param(0.0, name="x", ge=0, le=1)
    assert read_value(number, "<think>0.1 is too low</think>0.7") == 0.7
    with pytest.raises(ParamError):
        read_value(number, "<think>0.1 is too low, perhaps 0.")


def test_a_refusal_is_no_value():
    with pytest.raises(ParamError, match="the model refuses: I must not"):
        read_choice(text(), "I must not.", "refusal")
    assert read_choice(text(), "I must.", "stop") == "I must."
