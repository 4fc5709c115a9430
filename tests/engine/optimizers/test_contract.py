"""What holds for every optimizer that can be named: a new one is tested before its author writes a line."""

from __future__ import annotations

import json
import random

import pytest

from engine import Budget, Feedback, optimize, optimizers, trace
from engine.errors import ConfigError, InputError, UnknownName
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, Optimizer, State

NAMES = optimizers.names()


def params():
    return [
        trace.param("a word", name="text", description="some words"),
        trace.param(0.5, name="number", ge=0, le=1),
        trace.param(3, name="integer", ge=0, le=9),
        trace.param("red", name="choice", choices=["red", "blue"]),
        trace.param(False, name="flag"),
        trace.param({"a": 1}, name="json"),
    ]


VALUES = {"text": "new words", "number": 0.25, "integer": 4, "choice": "blue", "flag": True, "json": {"a": 2}}


def answer(messages):
    """A usable answer to any optimizer: a suggestion or an edit where it is asked for, else the parameter's value."""
    if "#Variables" in messages[-1]["content"]:
        return {"reasoning": "because", "suggestion": VALUES}
    if "#Source" in messages[-1]["content"]:
        return "<<<<<<< SEARCH text\na word\n=======\nnew words\n>>>>>>> REPLACE"
    said = str(messages)
    name = next((name for name in VALUES if f'"{name}"' in said), "text")  # the text is asked for by its description
    return VALUES[name] if isinstance(VALUES[name], str) else json.dumps(VALUES[name])


def state_of(given, llm=None, seed=0):
    values = {p.name: p.value for p in given}
    start = Evaluation(Candidate(values), (0,), (Feedback(0.5, "so so"),), ("out",), failed=(False,))
    return State(given, values, [], [start], llm, random.Random(seed), step=1, initial=values, examples=["an example"])


def test_the_named_ones_are_there():
    assert {"optoprime", "opro", "random", "best_of_n", "placebo"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_proposes_values_that_the_parameters_take(name):
    optimizer, given = optimizers.make(name), params()
    assert isinstance(optimizer, Optimizer) and optimizer.name == name
    llm = ScriptedLLM(answer) if optimizer.needs_llm else None
    found = optimizer.propose(state_of(given, llm), 6)
    by_name = {p.name: p for p in given}
    assert 0 < len(found) <= 6
    for candidate in found:
        assert not candidate.fault
        assert {n: by_name[n].check(v) for n, v in candidate.values.items()} == dict(candidate.values)


@pytest.mark.parametrize("name", NAMES)
def test_equal_states_give_equal_proposals_and_proposing_changes_no_parameter(name):
    def propose():
        optimizer, given = optimizers.make(name), params()
        found = optimizer.propose(state_of(given, ScriptedLLM(answer)), 4)
        assert [p.version for p in given] == [0] * len(given)
        return found

    assert propose() == propose()


@pytest.mark.parametrize("name", NAMES)
def test_its_state_is_json_and_its_needs_are_known(name):
    optimizer = optimizers.make(name)
    optimizer.observe([])
    saved = json.loads(json.dumps(optimizer.state_dict()))
    optimizers.make(name).load_state_dict(saved)
    assert optimizer.needs <= {"score", "text", "graph", "hidden_states", "ranking"}
    assert json.loads(json.dumps(optimizer.options()))["candidates"] >= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_named(name):
    with pytest.raises(ConfigError, match="Did you mean 'candidates'"):
        optimizers.make({"kind": name, "candidate": 3})
    assert type(optimizers.make(name)).__doc__ and type(optimizers.make(name)).Config.model_json_schema()


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_the_loop(name, tmp_path):
    given = params()

    @trace.node
    def use(*values):
        return len(str(values))

    result = optimize(
        lambda: use(*given),
        feedback=lambda _, out: Feedback(out, "longer is better"),
        optimizer=name,
        llm=ScriptedLLM(answer),
        budget=Budget(evaluations=3, invalid=20),
        run_dir=tmp_path / "run",
        workers=2,
    )
    assert result.score >= result.baseline and result.optimizer == name
    assert len(result.history) > 1


def test_names_that_are_none_and_things_that_are_no_optimizers():
    with pytest.raises(UnknownName, match="Did you mean 'opro'"):
        optimizers.make("opr")
    with pytest.raises(InputError, match="allowed: auto, best_of_n"):
        optimizers.make({"history": 3})
