"""Rankings of a step lead numbers, choices and texts; nothing is compared across steps but through who was held."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from engine import Budget, optimize, trace
from engine.errors import Stopped
from engine.llm import ScriptedLLM
from engine.optimizers import make
from engine.optimizers._compared import rounds
from engine.optimizers._descent import PERTURBED, SEARCHED, Settings, replayed
from engine.optimizers._space import Category, Space
from engine.optimizers._thompson import value_strengths
from engine.optimizers.rank import THOMPSON
from engine.ranking import ProgramRanker
from engine.ranking.bradley_terry import strengths_of
from tests.engine.optimizers.searching import evaluation, interval, ranked_search, search, start_state

SETTINGS = Settings(mu=0.1, eta=2.0, gamma=0.5, momentum=0.0, shrink=0.8)


def cube(dims):
    return [trace.param(0.5, name=f"x{i}", ge=0, le=1) for i in range(dims)]


def distance(dims, seed):
    """How far values are from a hidden target."""
    rng = random.Random(seed)
    target = [rng.uniform(0.1, 0.9) for _ in range(dims)]
    return lambda v: math.dist([v[f"x{i}"] for i in range(dims)], target)


@pytest.mark.parametrize(("dims", "noise", "tie"), [(3, 0.0, 0.0), (3, 0.1, 0.05), (5, 0.0, 0.0), (5, 0.1, 0.05)])
def test_an_annotator_is_followed_better_than_by_random_draws_at_equal_questions(dims, noise, tie):
    differences = []
    for seed in range(12):
        loss, options = distance(dims, seed), {"noise": noise, "tie": tie, "seed": seed}
        ours, theirs = (ranked_search(kind, cube(dims), loss, 12, **options) for kind in ("rank", "random"))
        differences.append(theirs - ours)
    low, _ = interval(differences)
    assert low > 0, f"{low:.3f}"


def votes(seed):
    """Four choices of five values each, every value with a worth of its own."""
    rng = random.Random(seed)
    worth = {f"c{i}": {value: rng.gauss(0, 1) for value in "abcde"} for i in range(4)}
    params = [trace.param("a", name=name, choices=list("abcde")) for name in worth]
    return params, lambda v: -sum(worth[name][v[name]] for name in worth)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_choices_are_found_better_than_by_random_draws(noise):
    differences = []
    for seed in range(12):
        params, loss = votes(seed)
        ours, theirs = (ranked_search(kind, params, loss, 8, noise=noise, seed=seed) for kind in ("rank", "random"))
        differences.append(theirs - ours)
    assert interval(differences)[0] > 0


def test_plain_scores_are_ranked_too_and_only_their_order_counts():
    def score(v):
        return -distance(3, 1)(v)

    assert search("rank", cube(3), score, 64) > search("random", cube(3), score, 64)
    # any monotone transform of the scores leads to the same values
    assert search("rank", cube(3), lambda v: math.exp(9 * score(v)), 40) == math.exp(
        9 * search("rank", cube(3), score, 40)
    )


def history_of(points, scores, reason, start=(0.5, 0.5), step=1):
    """Two numbers; the start has the score 0."""
    names = ("x0", "x1")
    found = [evaluation(dict(zip(names, p, strict=True)), s, step=step, reason=reason)
             for p, s in zip(points, scores, strict=True)]  # fmt: skip
    return [evaluation(dict(zip(names, start, strict=True)), 0.0), *found]


def test_the_direction_by_hand():
    # the order is b, the start, a: pairs (b, start), (b, a), (start, a); g = sum of (worse - better) / 3
    a, b = (0.5, 0.6), (0.8, 0.5)
    history = history_of([a, b], [-1.0, 2.0], PERTURBED)
    axes = Space.of(start_state(cube(2))).axes
    found = replayed(rounds(history, is_ranked=False), axes, {"x0": 0.5, "x1": 0.5}, SETTINGS)
    g = np.array([-0.3 + -0.3 + 0, 0 + 0.1 + 0.1]) / 3
    assert found.is_search and found.direction == pytest.approx(-g / np.linalg.norm(g))
    assert found.point == pytest.approx([0.5, 0.5]) and found.mu == 0.1


def test_a_line_search_goes_from_long_steps_to_short_ones_and_sets_mu():
    params = cube(2)
    history = history_of([(0.5, 0.6), (0.8, 0.5)], [-1.0, 2.0], PERTURBED)
    options = {"kind": "rank", "mu": 0.1, "line_search": 4}
    found = make(options).propose(start_state(params, history, step=2), 8)
    lengths = [math.dist(c.values.values(), (0.5, 0.5)) for c in found]
    # eta mu sqrt(d) gamma^i
    assert lengths == pytest.approx([2 * 0.1 * math.sqrt(2) / 2**i for i in range(4)])
    assert {c.reason for c in found} == {SEARCHED}
    steps = [tuple(c.values.values()) for c in found]
    axes, start = Space.of(start_state(params)).axes, {"x0": 0.5, "x1": 0.5}
    for winner, mu in ((0, 0.1), (1, 0.1), (2, 0.08), (3, 0.08)):
        told = [*history, *history_of(steps, [5.0 * (i == winner) for i in range(4)], SEARCHED, step=2)[1:]]
        after = replayed(rounds(told, is_ranked=False), axes, start, SETTINGS)
        assert after.point == pytest.approx(steps[winner]) and after.mu == pytest.approx(mu) and not after.is_search


def test_who_tells_nobody_apart_teaches_nothing():
    history = history_of([(0.5, 0.6), (0.8, 0.5)], [0.0, 0.0], PERTURBED)
    axes = Space.of(start_state(cube(2))).axes
    found = replayed(rounds(history, is_ranked=False), axes, {"x0": 0.5, "x1": 0.5}, SETTINGS)
    assert not found.is_search and not found.direction.any()


def test_strengths_of_values_are_bradley_terrys_of_the_candidates_with_one_choice():
    c = trace.param("a", name="c", choices=list("abc"))
    values = [{"c": v} for v in "abc"]
    history = [evaluation(values[0], 1.0), evaluation(values[1], 3.0, step=1), evaluation(values[2], 2.0, step=1)]
    mode, covariance = value_strengths(rounds(history, is_ranked=False), [Category(c, tuple("abc"))])
    # b > c > a: of a ranking of three each pair counts 2/3
    expected = strengths_of(np.array([[0, 0, 0], [2, 0, 2], [2, 0, 0]]) / 3)
    assert mode == pytest.approx(expected[0]) and covariance == pytest.approx(expected[1])


def test_whole_numbers_move_and_all_values_stay_in_their_bounds():
    params = [trace.param(2, name="k", ge=0, le=4), trace.param(0.0, name="x"), trace.param(-3, name="low", le=0)]

    def score(v):
        return v["k"] + math.atan(v["x"]) + v["low"]

    for seed in range(3):
        assert search("rank", params, score, 48, seed) > 4  # checks every value against its parameter


def test_parts_take_turns():
    params = [*cube(2), trace.param("a", name="c", choices=list("abcdefghij")), trace.param("hello", name="text")]
    llm = ScriptedLLM(lambda messages: f"words {len(str(messages)) % 7}")
    for step, reason, names in ((1, PERTURBED, {"x0", "x1"}), (2, THOMPSON, {"c"}), (3, "", {"text"})):
        found = make("rank").propose(start_state(params, step=step, llm=llm), 3)
        assert all(c.values.keys() == names for c in found)
        assert not reason or {c.reason for c in found} == {reason}
    without = make("rank").propose(start_state(params, step=3), 3)  # no model: numbers again
    assert without[0].reason == PERTURBED
    assert make("rank").asks_llm(params) and not make("rank").asks_llm(params[:3])
    assert make({"kind": "placebo", "of": "rank"}).asks_llm(params)


WORDS = {"cold": 0, "cool": 1, "mild": 2, "warm": 3, "hot": 4}


def test_opro_is_told_strengths_that_can_be_compared_and_not_win_rates(tmp_path):
    """The held values, win rate 0 or 1/2 by chance of the step, are told in the order of the rankings."""
    tone = trace.param("cold", name="tone", description="a tone")

    @trace.node
    def say(tone, name):
        return f"{tone} {name}"

    order, sent = iter(["cool", "cold!", "warm", "mild", "hot", "cool!"]), []

    def propose(messages):
        sent.append(messages)
        return next(order, "hot!")

    def warmth(items, question):
        return {one: WORDS.get(text.split()[0], -1) for one, text in items.items()}

    result = optimize(
        lambda name: say(tone, name), ["Ann"], feedback=ProgramRanker(warmth), workers=1, llm=ScriptedLLM(propose),
        optimizer={"kind": "rank", "candidates": 2, "of": {"kind": "opro", "explore": 2}},
        budget=Budget(evaluations=6), run_dir=tmp_path / "run",
    )  # fmt: skip
    assert result.best == {"tone": "hot"} and result.optimizer == "rank"
    told = [m["content"] for m in sent[-1] if m["role"] == "assistant"]
    assert [word for word in told if word in WORDS] == ["cold", "cool", "mild", "warm"]
    asked = [m["content"] for m in sent[-1] if m["role"] == "user"]
    assert asked[told.index("cold")].endswith("score 50.")  # an even chance against itself


@pytest.fixture
def run(tmp_path):
    def call(name, **options):
        params = [*cube(2), trace.param("a", name="c", choices=list("abcdef")), trace.param("word", name="text")]

        @trace.node
        def use(*values):
            return json.dumps(values)

        def near(items, question):
            noise = random.Random(question)
            return {one: noise.gauss(0, 0.05) - value(json.loads(text)) for one, text in items.items()}

        def value(values):
            x0, x1, c, text = values
            return math.dist((x0, x1), (0.2, 0.8)) + (c != "d") + abs(len(text) - 9) / 9

        options = {"feedback": ProgramRanker(near), "budget": Budget(evaluations=40), "optimizer": "rank", **options}
        llm = ScriptedLLM(lambda messages: "w" * (1 + sum(map(len, str(messages).split())) % 13))
        return optimize(
            lambda example: use(*params), ["a", "b", "c"], llm=llm, workers=1, run_dir=tmp_path / name, **options
        )

    return call


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_resumed_run_goes_on_exactly(run, batch_size):
    def stop(report):
        if report.row["step"] in (2, 3, 5):
            raise Stopped("enough")

    def told(result):
        return [(e.step, dict(e.candidate.values), e.scores, e.accepted) for e in result.history]

    optimizer = {"kind": "rank", "candidates": 4}
    whole = run("whole", optimizer=optimizer, batch_size=batch_size)
    for _ in range(3):
        run("parts", optimizer=optimizer, batch_size=batch_size, callbacks=[stop])
    assert told(run("parts", optimizer=optimizer, batch_size=batch_size)) == told(whole)


def test_mixed_parameters_win_against_the_start(run):
    result = run("run", optimizer="auto", budget=Budget(evaluations=64))
    assert result.optimizer == "rank" and result.score == 1
    assert result.best["c"] == "d" and math.dist((result.best["x0"], result.best["x1"]), (0.2, 0.8)) < 0.3


def test_a_ranker_that_ranks_at_random_and_a_placebo_lead_nowhere():
    """Shuffled judgements and coin flips are as good as each other, and worse than an annotator."""
    ends = {"true": [], "placebo": [], "coin": []}
    for seed in range(10):
        loss, rng = distance(3, seed), random.Random(seed)
        ends["true"].append(ranked_search("rank", cube(3), loss, 10, seed=seed))
        ends["placebo"].append(ranked_search({"kind": "placebo", "of": "rank"}, cube(3), loss, 10, seed=seed))
        values = {}

        def coin(v, values=values, rng=rng):
            return values.setdefault(tuple(v.values()), rng.random())

        ranked_search("rank", cube(3), coin, 10, seed=seed)
        ends["coin"].append(loss(dict(zip(("x0", "x1", "x2"), min(values, key=values.get), strict=True))))
    for control in ("placebo", "coin"):
        assert interval([a - b for a, b in zip(ends[control], ends["true"], strict=True)])[0] > 0


def test_a_ranker_that_tells_nobody_apart_does_no_harm(run):
    blind = ProgramRanker(lambda items, question: {one: 0.0 for one in items})
    result = run("blind", feedback=blind, budget=Budget(evaluations=24))
    assert result.score == 0.5 and not any(e.accepted for e in result.history)
