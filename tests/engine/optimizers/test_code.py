"""Code in the optimizers' prompts and answers, and random edits of it."""

from __future__ import annotations

import ast
import json
import random

import pytest

from engine import Feedback, optimizers, trace
from engine.errors import ParamError
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, State
from engine.optimizers._answers import read_value, suggestion_schema
from engine.optimizers._edits import edited
from engine.optimizers._words import variable


@trace.node(trainable=True)
def between(x, low=0, high=10):
    """Whether x lies strictly between 3 and "the" rest."""
    # 5 stays 5 here
    return low < x and not x >= high and min(x, high - 1) > 0


NEW = 'def between(x, low=0, high=10):\n    """It\'s ``` and "more" \\\\n."""\n\n    return low < x < high\n'


def state(llm, *, history=()):
    values = {"between": between.code.value}
    start = Evaluation(Candidate(values), (0,), (Feedback(0.5, "so so"),), ("out",), failed=(False,))
    params = [between.code]
    return State(params, values, [], [start, *history], llm, random.Random(0), step=1, initial=values)


def test_optoprime_shows_the_source_and_its_limits_and_takes_any_source_as_it_is():
    llm = ScriptedLLM([{"reasoning": "r", "suggestion": {"between": NEW}}])
    (found,) = optimizers.make("optoprime").propose(state(llm), 1)
    assert found.values == {"between": NEW} and between.code.check(NEW) == NEW
    prompt = llm.calls[0].messages[-1]["content"]
    assert f"#Variables\n(code) between =\n```python\n{between.code.value}```" in prompt
    limits = prompt.partition("#Constraints\n")[2].partition("\n\n")[0]
    assert "keeps its signature, def between(x, low=0, high=10)" in limits and "math" in limits
    assert suggestion_schema([between.code])["properties"]["suggestion"]["properties"]["between"]["type"] == "string"


def test_a_fence_in_the_source_does_not_end_the_fence_around_it():
    shown = variable(between.code, NEW)
    fence = shown.splitlines()[-1]
    assert set(fence) == {"`"} and fence not in NEW and shown.splitlines()[1] == fence + "python"


@pytest.mark.parametrize("name", ["opro", "best_of_n"])
def test_plain_answers_are_taken_out_of_their_fence(name):
    answers = [f"Here it is:\n```python\n{NEW.replace('```', '')}```\nIt is shorter.", "I cannot do that."]
    llm = ScriptedLLM(answers)
    usable, fault = optimizers.make(name).propose(state(llm), 2)
    assert usable.values == {"between": NEW.replace("```", "")} and "not Python" in fault.fault
    call = llm.calls[0]
    assert "def between(x, low=0, high=10)" in str(call.messages) and f"```python\n{between.code.value}" in str(
        [message["content"] for message in call.messages]
    ).replace("\\n", "\n").replace("\\'", "'")
    assert call.sampling["max_tokens"] >= 512 and not call.sampling.get("stop")


@pytest.mark.parametrize(
    "text",
    [
        NEW.replace("```", ""),
        f"```\n{NEW.replace('```', '')}\n```",
        f"First `x`.\n\n```py\nx = 1\n```\n\n~~~python\n{NEW.replace('```', '')}~~~",
        f"````python\n{NEW}````",
    ],
)
def test_answers_with_and_without_fences_are_read(text):
    assert read_value(between.code, text).replace("```", "") == NEW.replace("```", "")


@pytest.mark.parametrize("text", ["", "def between(x): return x", "```python\nx = 1\n```", "```\nunclosed\ndef f(): 1"])
def test_answers_that_are_no_version_are_refused(text):
    with pytest.raises(ParamError):
        read_value(between.code, text)


def test_random_draws_differ_by_a_few_edits_of_the_body_and_depend_on_the_seed_alone():
    source = between.code.value
    drawn = [edited(source, random.Random(seed)) for seed in range(200)]
    assert drawn == [edited(source, random.Random(seed)) for seed in range(200)]
    assert len(set(drawn)) > 60 and sum(text == source for text in drawn) < 20
    head = source[: source.index("    return")]
    assert all(text.startswith(head) and between.code.check(text) == text for text in drawn)
    assert {type(node) for text in drawn for node in ast.walk(ast.parse(text))} >= {ast.Or, ast.Sub, ast.LtE, ast.Eq}
    assert any("not" not in text.partition("return")[2] for text in drawn)
    assert any("min(high - 1, x)" in text for text in drawn)


def test_random_proposes_for_code_and_leaves_alone_what_has_nothing_to_edit():
    found = optimizers.make("random").propose(state(None), 5)
    assert [c.values["between"] for c in found] == [between.code.check(c.values["between"]) for c in found]
    bare = "def f(x):\n    'a text'\n    return x\n"
    assert edited(bare, random.Random(0)) == bare


@pytest.mark.parametrize("seed", range(30))
def test_edits_of_odd_places_leave_python(seed):
    source = (
        "def f(é, *b):\n    match é:\n        case 1 | -2:\n            é += 1\n"
        "    return (f'{é + 1:>{2}} ß', é if é\n        > 2 else -é, [*b][1:é - 1], g(*b, 1), é @ b, 1 < é < 3)\n"
    )
    text = edited(source, random.Random(seed))
    assert text == source or (ast.dump(ast.parse(text)) != ast.dump(ast.parse(source)) and "f'{é + 1:>{2}} ß'" in text)


def test_history_tells_earlier_versions():
    tried = Evaluation(Candidate({"between": NEW}), (0,), (Feedback(0.0, "wrong"),), ("out",), failed=(False,))
    llm = ScriptedLLM([{"reasoning": "r", "suggestion": {}}])
    optimizers.make("optoprime").propose(state(llm, history=[tried]), 1)
    history = llm.calls[0].messages[-1]["content"].partition("#History\n")[2]
    assert json.loads(history.partition("}: ")[0] + "}") == {"between": NEW}
