"""The controls must know as little as they say."""

from __future__ import annotations

import random

import pytest

from engine import Feedback, trace
from engine.errors import UnknownName
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, State, Trajectory, make
from engine.optimizers.placebo import shuffled
from engine.optimizers.random import draw, word_pool


def history(*scores):
    return [
        Evaluation(Candidate({"text": f"v{i}"}), (0,), (Feedback(s, f"said {s}"),), ("",), failed=(False,))
        for i, s in enumerate(scores)
    ]


def state(params, evaluations, llm=None, seed=0, trajectories=(), current=None):
    initial = {p.name: p.value for p in params}
    return State(
        params, {**initial, **(current or {})}, list(trajectories), evaluations, llm, random.Random(seed), step=1,
        initial=initial, examples=["the quick fox"],
    )  # fmt: skip


def text():
    return trace.param("hello there", name="text", description="words to say")


def test_random_and_best_of_n_propose_the_same_whatever_was_found():
    for name in ("random", "best_of_n"):
        seen = []
        for scores, current in (((0.1, 0.9), {}), ((0.9, 0.1, 0.5), {"text": "v0"})):
            llm = ScriptedLLM(lambda messages: f"answer to {len(str(messages))}")
            seen.append((make(name).propose(state([text()], history(*scores), llm, current=current), 5), llm.sent))
        assert seen[0] == seen[1]


def test_random_numbers_are_uniform_between_their_bounds():
    param, rng = trace.param(0.2, name="x", ge=-1, le=3), random.Random(0)
    drawn = sorted(draw(param, 0.2, [], rng) for _ in range(4000))
    # Kolmogorov-Smirnov distance to the uniform distribution; 1.63 / sqrt(n) is the 1 % level
    distance = max(abs((v + 1) / 4 - i / 4000) for i, v in enumerate(drawn))
    assert distance < 1.63 / 4000**0.5


def test_random_values_of_every_kind_are_accepted():
    rng = random.Random(1)
    params = [
        trace.param(5, name="low", ge=3), trace.param(-5.0, name="high", le=-2), trace.param(7, name="free"),
        trace.param("b", name="choice", choices=["a", "b"]), trace.param(True, name="flag"), text(),
        trace.param({"a": [1, 2.5, True, "hello", None]}, name="json"),
    ]  # fmt: skip
    for param in params:
        for _ in range(100):
            param.check(draw(param, param.value, ["word"], rng))


def test_random_texts_are_made_of_the_runs_own_words():
    given = state([text()], history(0.5))
    pool = word_pool(given)
    assert pool == ["fox", "hello", "quick", "say", "text", "the", "there", "to", "words"]
    found = [c.values["text"] for c in make("random").propose(given, 200)]
    assert {word for value in found for word in value.split()} <= set(pool)
    assert all(1 <= len(value.split()) <= 6 for value in found) and len(set(found)) > 100


def test_a_placebo_reads_judgements_that_belong_to_others():
    evaluations = history(*(i / 10 for i in range(10)))
    for seed in range(20):
        dealt = shuffled(evaluations, random.Random(seed))
        assert [e.candidate for e in dealt] == [e.candidate for e in evaluations]
        assert all(a.feedback != b.feedback for a, b in zip(dealt, evaluations, strict=True))
        assert sorted(e.score for e in dealt) == sorted(e.score for e in evaluations)


def test_a_placebo_of_optoprime_shows_no_true_judgement_of_a_run():
    llm = ScriptedLLM([{"reasoning": "", "suggestion": {"text": "new"}}])
    trajectory = Trajectory("example", "output", Feedback(0.123, "the truth"))
    optimizer = make({"kind": "placebo", "of": {"kind": "optoprime", "memory": 0}})
    found = optimizer.propose(state([text()], history(0.4, 0.6), llm, trajectories=[trajectory]), 1)
    assert found == [Candidate({"text": "new"})]
    assert "the truth" not in str(llm.sent) and "0.123" not in str(llm.sent) and "said 0." in str(llm.sent)
    assert optimizer.needs == make("optoprime").needs and optimizer.candidates == 1


def test_a_placebo_of_something_unknown_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'opro'"):
        make({"kind": "placebo", "of": "opr"})
