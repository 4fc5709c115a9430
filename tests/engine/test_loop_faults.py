"""What a user, a model or an endpoint can do wrong: one clear message, an end in time, nothing lost."""

from __future__ import annotations

import json

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.errors import (
    BudgetSpent,
    ConfigError,
    DataError,
    EngineError,
    InputError,
    LLMUnavailable,
    TraceError,
    UnknownName,
)
from engine.jsonfiles import read_json
from engine.llm import OpenAILLM, ScriptedLLM

GOOD = json.dumps({"reasoning": "up", "suggestion": {"x": 2}})
MALFORMED = {
    "empty": "",
    "prose": "I think x should be larger.",
    "null": "null",
    "a list": "[1, 2]",
    "a number": "3",
    "cut off": '{"reasoning": "it should be',
    "cut off while thinking": "<think>let me see",
    "no suggestion": '{"reasoning": "up"}',
    "suggestion is text": '{"reasoning": "", "suggestion": "x = 2"}',
    "suggestion is null": '{"reasoning": "", "suggestion": null}',
    "unknown name": '{"reasoning": "", "suggestion": {"y": 2}}',
    "wrong type": '{"reasoning": "", "suggestion": {"x": "many"}}',
    "fraction": '{"reasoning": "", "suggestion": {"x": 2.5}}',
    "above its bound": '{"reasoning": "", "suggestion": {"x": 99}}',
    "below its bound": '{"reasoning": "", "suggestion": {"x": -1}}',
    "infinite": '{"reasoning": "", "suggestion": {"x": Infinity}}',
    "not a number": '{"reasoning": "", "suggestion": {"x": NaN}}',
    "a key twice": '{"reasoning": "", "suggestion": {"x": 2, "x": 3}}',
    "two answers": f'{GOOD}\n{{"reasoning": "", "suggestion": {{"x": 3}}}}',
    "code of the value": '{"reasoning": "", "suggestion": {"x": __import__("os").getpid()}}',
    "nothing new": '{"reasoning": "", "suggestion": {}}',
    "the value it has": '{"reasoning": "", "suggestion": {"x": 1}}',
    "refused by the constraint": '{"reasoning": "", "suggestion": {"x": 5}}',
}


def not_five(value):
    """Anything but five."""
    return value != 5


@trace.node
def times(x, example):
    return x * example


@pytest.fixture
def run(tmp_path):
    def call(workflow=None, data=(1, 2), **options):
        x = trace.param(1, name="x", ge=0, le=9, constraint=not_five)
        workflow = workflow or (lambda example: times(x, example))
        options = {
            "feedback": lambda _, out: out, "run_dir": tmp_path / "r", "workers": 1, "optimizer": "optoprime",
            "budget": Budget(evaluations=2, invalid=5), **options,
        }  # fmt: skip
        return optimize(workflow, list(data) if data is not None else None, **options)

    return call


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_answers_lose_nothing_and_the_run_ends_in_time(run, kind):
    llm = ScriptedLLM(lambda messages: MALFORMED[kind])
    result = run(llm=llm)
    assert (result.stopped_by, result.status) == ("invalid", "done")
    assert result.best == {"x": 1} and result.score == result.baseline == 1.5
    assert len(result.history) == 1 and result.cost.invalid == 5 and len(llm.calls) == 5


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_good_answer_among_malformed_ones_is_used(run, kind):
    bad = MALFORMED[kind]
    result = run(llm=ScriptedLLM([bad, bad, GOOD, bad, bad] * 9), budget=Budget(evaluations=1, invalid=3))
    assert result.best == {"x": 2} and result.score == 3


def test_malformed_answers_in_a_sample_of_several_cost_only_themselves(run):
    answers = [GOOD, "?", '{"reasoning": "", "suggestion": {"x": 3}}', "??", "?", "??"]
    result = run(
        llm=ScriptedLLM(answers), optimizer={"kind": "optoprime", "candidates": 4}, budget=Budget(steps=1, invalid=9)
    )
    assert result.best == {"x": 3} and result.cost.invalid == 2 and result.cost.evaluations == 2


@pytest.mark.parametrize("kind", ["empty", "prose", "null", "no suggestion", "wrong type"])
@pytest.mark.parametrize("optimizer", ["opro", "best_of_n", "placebo"])
def test_plain_answers_that_are_no_values_end_the_run_in_time(run, optimizer, kind):
    result = run(llm=ScriptedLLM(lambda messages: MALFORMED[kind]), optimizer=optimizer)
    assert result.stopped_by == "invalid" and result.best == {"x": 1}
    assert "  5 proposals were not allowed or had been tried before" in str(result)
    assert result.cost.invalid == 5  # 8 candidates a step, but of the last step only as many as may still be invalid


def test_a_report_that_cannot_be_written_takes_nothing_with_it(run, tmp_path):
    def in_the_way(_):
        (tmp_path / "r" / "report.html").mkdir(exist_ok=True)

    with pytest.warns(UserWarning, match=r"no report.html: (.|\n)*try `engine report"):
        result = run(llm=ScriptedLLM([GOOD] * 9), callbacks=[in_the_way])
    assert result.best == {"x": 2} and result.status == "done"


def test_an_optimizer_that_proposes_nothing_ends(run):
    from engine.optimizers import Optimizer

    class Silent(Optimizer):
        needs_llm = False

        def propose(self, state, n):
            return []

    assert run(optimizer=Silent()).stopped_by == "invalid"


def test_an_endpoint_that_is_down_is_said_and_the_run_can_be_resumed(run, tmp_path):
    from engine.llm import OpenAILLM

    down = OpenAILLM("m", base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0)
    with pytest.raises(LLMUnavailable) as caught:
        run(llm=down)
    assert caught.value.exit_code == 3 and "127.0.0.1:9" in str(caught.value)
    assert read_json(tmp_path / "r" / "status.json")["status"] == "failed"
    assert run(llm=ScriptedLLM([GOOD]), budget=Budget(evaluations=1)).best == {"x": 2}


class Untouchable(trace.Module):
    """Nothing but the code of a method, whose object cannot go into the sandbox."""

    @trace.node(trainable=True)
    def forward(self, example):
        return 1

    def __call__(self, example):
        return self.forward(example)


BAD_INPUT = {
    "no callable": ({"workflow": 3}, InputError, "workflow is 3"),
    "feedback not callable": ({"feedback": "good"}, InputError, "feedback is 'good'"),
    "no params": ({"workflow": lambda example: 1}, TraceError, "used no parameter"),
    "only code": ({"workflow": Untouchable()}, TraceError, "argument `self` cannot go there"),
    "unknown optimizer": ({"optimizer": "optprime"}, UnknownName, "Did you mean 'optoprime'"),
    "unknown option": ({"optimizer": {"kind": "opro", "histry": 3}}, ConfigError, "Did you mean 'history'"),
    "option out of bounds": ({"optimizer": {"kind": "opro", "crossover": 2}}, ConfigError, "crossover"),
    "optimizer of another type": ({"optimizer": 3}, InputError, "optimizer is 3"),
    "unknown rule": ({"accept": "beter"}, UnknownName, "Did you mean 'better'"),
    "unknown limit": ({"budget": {"evaluation": 3}}, InputError, "Did you mean 'evaluations'"),
    "budget of another type": ({"budget": 3}, InputError, "budget is 3"),
    "empty data": ({"data": []}, DataError, "data has no examples"),
    "data is text": ({"data": "examples.jsonl"}, DataError, "data is 'examples.jsonl'"),
    "share of nothing": ({"validation": 0.1}, InputError, "validation is 0.1 of 2 examples"),
    "validation alone": ({"data": None, "validation": [1]}, InputError, "validation is given without data"),
    "batch size": ({"batch_size": 0}, InputError, "batch_size is 0"),
    "workers": ({"workers": 0}, InputError, "workers is 0"),
    "seed": ({"seed": "a"}, InputError, "seed is 'a'"),
    "unknown model": ({"llm": "gpt-9"}, ConfigError, "'gpt-9' names no model"),
    "feedback always fails": ({"feedback": lambda a, b: 1 / 0}, InputError, "ZeroDivisionError"),
    "feedback of no kind": ({"feedback": lambda a, b: None}, InputError, "feedback returned NoneType"),
    "feedback not finite": ({"feedback": lambda a, b: float("nan")}, InputError, "nan"),
    "no budget for the start": ({"budget": {"runs": 1}}, BudgetSpent, "budget of runs"),
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_is_one_clear_message(run, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options, error, message = BAD_INPUT[kind]
    options = {"llm": ScriptedLLM([]), **options}
    if options.get("data", ()) is None or isinstance(options.get("data"), str):
        with pytest.raises(error) as caught:
            optimize(lambda: 1, options.pop("data"), **{"feedback": lambda _, out: 1, **options})
    else:
        with pytest.raises(error) as caught:
            run(**options)
    assert message in str(caught.value) and isinstance(caught.value, EngineError)
    assert caught.value.allowed or caught.value.next_step


def test_a_failing_workflow_is_feedback_where_its_error_can_be_read(run):
    x = trace.param("a", name="x")

    @trace.node(catch=True)
    def parse(text):
        return int(text)

    llm = ScriptedLLM([{"reasoning": "digits", "suggestion": {"x": "7"}}])
    result = run(lambda example: parse(x), llm=llm, budget=Budget(evaluations=1))
    assert "ValueError" in llm.calls[0].messages[-1]["content"]
    assert result.best == {"x": "7"} and result.score == 7


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        ({"steps": 2}, "steps"),
        ({"evaluations": 2}, "evaluations"),
        ({"runs": 6}, "runs"),
        ({"calls": 2}, "calls"),
        ({"tokens": 5000}, "tokens"),
        ({"usd": 0.02}, "usd"),
        ({"seconds": 0.3}, "seconds"),
    ],
)
def test_every_limit_ends_the_run_and_is_not_overspent(run, budget, limit):
    import time

    from engine.llm import LLM, Completion, Usage

    class Priced(LLM):
        name = "priced"
        made = 0

        def complete(self, messages, *, schema=None, n=1, **sampling):
            self.made += 1
            time.sleep(0.05)
            value = {"reasoning": "", "suggestion": {"x": (2, 3, 4, 6, 7, 8, 9)[self.made % 7]}}
            return Completion(("",), ("stop",), (value,), Usage(1, 900, 100, 0.05, 0.01))

    result = run(llm=Priced(), budget={"evaluations": None, "invalid": 1000, **budget}, optimizer="optoprime")
    assert result.stopped_by == limit and result.score >= result.baseline
    cost = result.cost
    tokens = cost.prompt_tokens + cost.completion_tokens
    spent = {**vars(cost), "tokens": tokens}[limit]
    assert spent <= budget[limit] * (3 if limit == "seconds" else 1)
    assert cost.calls * 1000 == tokens and cost.usd == pytest.approx(cost.calls * 0.01)


def test_feedback_text_alone_and_a_score_now_and_then(run):
    result = run(
        feedback=lambda example, out: Feedback(out, "x") if example == 1 else "no score here",
        llm=ScriptedLLM([GOOD], cycle=True),
    )
    assert result.best == {"x": 2}


@pytest.mark.parametrize("optimizer", ["opro", "placebo"])
def test_money_is_not_limited_by_a_model_that_does_not_tell_its_price(run, optimizer):
    llm = OpenAILLM("gpt", "http://127.0.0.1:9/v1", api_key="k")
    with pytest.raises(InputError, match=r"the price of openai:gpt.* is not known") as caught:
        run(llm=llm, optimizer=optimizer, budget=Budget(usd=1))
    assert "price=(PROMPT, ANSWER)" in caught.value.next_step
