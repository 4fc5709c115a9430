"""GLOV: what is shown, when and by what it is guided, and when steering ends."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.errors import InputError
from engine.llm import LLM, Completion, LocalLLM, ScriptedLLM
from engine.llm.steering import read_steering
from engine.optimizers import Candidate, Evaluation, State, make
from engine.optimizers.glov import extremes, has_improved, steering_gain


def evaluation(score, reason="", step=1, **values):
    return Evaluation(Candidate(values, reason), (0,), (Feedback(score),), ("",), step=step, failed=(False,))


def state(history, llm, params=None, seed=0):
    params = params or [trace.param("start", name="text", description="a greeting")]
    values = {p.name: p.value for p in params}
    return State(params, values, [], history, llm, random.Random(seed), step=9, objective="Be kind.", initial=values)


def known(n, improved=True):
    """n values of which the later are better; the first is the start."""
    start = 0 if improved else n
    return [evaluation(start / 100, text="start"), *(evaluation(i / 100, text=f"value {i}") for i in range(1, n))]


def glov(**options):
    return make({"kind": "glov", "explore": 0, "crossover": 0, **options})


def script(can_steer=True):
    return ScriptedLLM(lambda messages: "a new value", can_steer=can_steer)


def turns(llm, call=0):
    said = [m for m in llm.calls[call].messages if m["role"] != "system"]
    return [(a["content"], b["content"]) for a, b in zip(said[:-1:2], said[1::2], strict=True)], said[-1]["content"]


def test_the_defaults_are_the_papers():
    options = make("glov").options()
    paper = {"k": 5, "candidates": 10, "temperature": 1.0, "top_p": 0.9, "max_tokens": 75}
    assert {name: options[name] for name in paper} == paper


def test_the_five_best_and_the_five_worst_are_told_with_their_scores_in_ascending_order():
    llm = script()
    glov(guidance="off").propose(state(known(30), llm), 4)
    shown, ask = turns(llm)
    places = [0, 1, 2, 3, 4, 25, 26, 27, 28, 29]
    assert [value for _, value in shown] == ["start" if i == 0 else f"value {i}" for i in places]
    assert [said for said, _ in shown] == [f"Write a greeting, score {i}." for i in places]
    assert ask == "Write a greeting, score 32."  # best 29, a tenth of the range 0-29 above it


def test_no_value_is_shown_twice_where_few_are_known():
    for n in range(1, 12):
        values = [(f"v{i}", float(i)) for i in range(n)]
        worst, best = extremes(values, 5)
        assert [*worst, *best] == values[: len(worst)] + values[n - len(best) :]
        assert len(best) == min(5, n - n // 2) and len(worst) == min(5, n // 2)


def test_guidance_begins_with_the_first_improvement():
    for improved in (False, True):
        llm = script()
        found = glov().propose(state(known(10, improved), llm), 4)
        assert any("steering" in call.sampling for call in llm.calls) is improved
        assert {c.reason for c in found} == ({"steered", "unsteered"} if improved else {"unsteered"})
    failed = Evaluation(Candidate({"text": "x"}), (0, 1), (Feedback(1), Feedback(text="error")), failed=(False, True))
    assert not has_improved([evaluation(0.5, text="start"), failed])


def test_guidance_may_begin_with_the_first_scores_told():
    for explore, is_steered in ((0, True), (9, True), (10, False)):
        llm = script()
        glov(begin="scores", explore=explore).propose(state(known(10, improved=False), llm), 4)
        assert ("steering" in str(llm.calls)) is is_steered


def test_nothing_is_guided_before_scores_are_told():
    for can_steer in (True, False):
        llm = script(can_steer)
        found = glov(explore=20).propose(state(known(10), llm), 4)
        assert {c.reason for c in found} == {"unsteered"} and "core" not in str(llm.calls)


def test_half_of_a_step_is_steered_by_the_means_of_the_best_and_the_worst():
    llm = script()
    found = glov().propose(state(known(30), llm), 10)
    assert [c.reason for c in found] == ["unsteered"] * 5 + ["steered"] * 5
    plain, steered = llm.calls
    assert (plain.n, steered.n) == (5, 5) and plain.messages == steered.messages
    steering = steered.sampling["steering"]
    assert steering["positive"] == [f"value {i}" for i in range(22, 30)]
    assert steering["negative"] == ["start", *(f"value {i}" for i in range(1, 8))]
    assert (steering["alpha"], steering["depth"], steering["mode"]) == (0.2, 0.4, "exact")
    assert read_steering(steering) is not None and "steering" not in plain.sampling


def test_the_papers_pair_is_the_best_and_the_second_best():
    llm = script()
    glov(pool="single", depth=0.55, alpha=1.0).propose(state(known(30), llm), 2)
    steering = llm.calls[1].sampling["steering"]
    assert (steering["positive"], steering["negative"]) == (["value 29"], ["value 28"])


def test_without_the_gate_all_are_steered():
    llm = script()
    found = glov(gate=False).propose(state(known(30), llm), 10)
    assert {c.reason for c in found} == {"steered"} and [call.n for call in llm.calls] == [10]


def halves(steered, unsteered, step):
    return [evaluation(s, "steered", step, text=f"s{step}{i}") for i, s in enumerate(steered)] + [
        evaluation(s, "unsteered", step, text=f"u{step}{i}") for i, s in enumerate(unsteered)
    ]


def test_steering_ends_when_the_steered_half_is_worse():
    good, bad = halves([0.6, 0.8], [0.5, 0.7], step=2), halves([0.3], [0.6], step=3)
    assert steering_gain(good) == pytest.approx(0.1)
    assert steering_gain(good + bad) == pytest.approx(-0.1)  # (.1 - .3) / 2, each step counts alike
    assert steering_gain([evaluation(0.1, "unsteered", 4, text="x"), *good]) == pytest.approx(0.1)
    for history, is_steered in ((good, True), (good + bad, False), (halves([0.5], [0.5], 2), True)):
        llm = script()
        found = glov().propose(state([*known(10), *history], llm), 4)
        assert ("steered" in {c.reason for c in found}) is is_steered
        assert sum(call.n for call in llm.calls) == 4


def test_a_model_that_cannot_be_steered_is_shown_good_and_bad_ones():
    llm = script(can_steer=False)
    found = glov().propose(state(known(30), llm), 4)
    assert {c.reason for c in found} == {"textual contrast"}
    shown, ask = turns(llm)
    assert [("badly" in said, "well" in said) for said, _ in shown] == [(True, False)] * 5 + [(False, True)] * 5
    assert "works well, score 32" in ask
    with pytest.raises(InputError, match="cannot be steered"):
        glov(guidance="embedding").propose(state(known(30), llm), 4)


def test_numbers_are_not_steered_and_not_said_to_be():
    llm = ScriptedLLM(lambda messages: "0.5", can_steer=True)
    number = trace.param(0.1, name="number", ge=0, le=1)
    history = [evaluation(i / 10, number=i / 10) for i in range(5)]
    found = glov().propose(state(history, llm, [number]), 4)
    assert {c.reason for c in found} == {"unsteered"} and "steering" not in str(llm.calls)


def test_each_parameter_is_steered_by_its_own_values():
    params = [trace.param("start", name=name, description=f"text {name}") for name in ("one", "two")]
    history = [evaluation(0.1 * i, one=f"one {i}", two=f"two {i}") for i in range(4)]
    llm = script()
    found = glov(gate=False).propose(state(history, llm, params), 3)
    assert [dict(c.values) for c in found] == [{"one": "a new value", "two": "a new value"}] * 3
    assert [call.sampling["steering"]["positive"] for call in llm.calls] == [["one 2", "one 3"], ["two 2", "two 3"]]


class Hashed(LLM):
    """Says words that follow from the whole request: messages, sampling, steering and seed."""

    name, steering_modes = "hashed", ("sticky",)

    def complete(self, messages, *, schema=None, n=1, **sampling):
        request = json.dumps([list(messages), sampling], sort_keys=True)
        texts = tuple(hashlib.sha256(f"{request}{i}".encode()).hexdigest()[:12] for i in range(n))
        return Completion(texts, ("stop",) * n)


def run(folder, evaluations, llm):
    text = trace.param("start", name="text", description="some words")

    @trace.node
    def use(text):
        return len(set(text)) / 100

    return optimize(
        lambda: use(text),
        feedback=lambda _, output: output,
        optimizer={"kind": "glov", "explore": 4, "candidates": 4, "max_tokens": 12},
        llm=llm,
        budget=Budget(evaluations=evaluations),
        run_dir=folder,
    )


def told(result):
    return [(e.step, dict(e.candidate.values), e.candidate.reason, e.score) for e in result.history]


def test_a_run_goes_on_as_if_it_had_not_ended(tmp_path):
    whole = run(tmp_path / "whole", 40, Hashed())
    reasons = [e.candidate.reason for e in whole.history]
    assert {"steered", "unsteered"} <= set(reasons)
    for cut in (4, 12, 24, 32):
        first = run(tmp_path / f"parts{cut}", cut, Hashed())
        assert told(first) == told(whole)[: len(first.history)]
        assert told(run(tmp_path / f"parts{cut}", 40, Hashed())) == told(whole)


@pytest.mark.model
def test_a_real_model_is_steered_in_the_loop(tmp_path, embedded_model):
    result = run(tmp_path / "run", 8, LocalLLM("smollm2-135m"))
    with sqlite3.connect(tmp_path / "run" / "llm.sqlite") as record:
        requests = [json.loads(request) for (request,) in record.execute("SELECT request FROM calls")]
    steered = [request["sampling"]["steering"] for request in requests if "steering" in request["sampling"]]
    assert "steered" in {e.candidate.reason for e in result.history} and steered
    assert all(read_steering(steering).mode == "exact" for steering in steered)
    record.close()
