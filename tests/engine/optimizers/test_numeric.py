"""TPE and CMA-ES on known functions, against optuna and cmaes used directly, and within the limits that are given."""

from __future__ import annotations

import json
import logging
import math
import random

import cmaes
import numpy as np
import optuna
import pytest

from engine import Budget, Feedback, optimize, trace
from engine.errors import ConfigError, InputError, Stopped
from engine.optimizers import make
from engine.optimizers._cmaes import SIGMA, generation_size, points
from engine.ranking import ProgramRanker
from tests.engine.optimizers.searching import evaluation, interval, search, start_state

OPTIMUM = 0.39788735772973816  # of Branin's function, at (-pi, 12.275), (pi, 2.275) and (3 pi, 2.475)


def branin(v):
    x, y = v["x"], v["y"]
    b, c, t = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return -((y - b * x * x + c * x - 6) ** 2 + 10 * (1 - t) * math.cos(x) + 10)


def plane():
    return [trace.param(0.0, name="x", ge=-5, le=10), trace.param(10.0, name="y", ge=0, le=15)]


def cube(dims, start=2.0):
    return [trace.param(start, name=f"x{i}", ge=-3, le=3) for i in range(dims)]


def sphere(v):
    return -sum((value - 1) ** 2 for value in v.values())


def mixed():
    return [
        trace.param("a", name="which", choices=["a", "b", "c"]), trace.param(False, name="on"),
        trace.param(0.5, name="x", ge=0, le=1), trace.param(5, name="k", ge=0, le=20),
    ]  # fmt: skip


def conditional(v):
    """k and `on` count under "b" alone, and x otherwise under "a" than under "b"; the best is 0.3."""
    if v["which"] == "a":
        return -0.3 - abs(v["x"] - 0.2)
    return 0.3 * v["on"] - abs(v["k"] - 13) / 20 - abs(v["x"] - 0.8) if v["which"] == "b" else -1.0


def noisy(seed):
    rng = random.Random(seed)
    truth = {}

    def score(v):
        truth[repr(v)] = sphere(v)
        return truth[repr(v)] + rng.gauss(0, 0.5)

    return score


def test_branin_is_where_the_literature_has_it():
    assert -branin({"x": math.pi, "y": 2.275}) == pytest.approx(0.397887, abs=1e-6)


def told(params, seed=3):
    """A history of random values with made-up scores."""
    rng = random.Random(seed)
    values = [{p.name: p.value for p in params}]
    values += [{p.name: rng.uniform(p.ge, p.le) for p in params} for _ in range(20)]
    return [evaluation(v, branin(v), step=i) for i, v in enumerate(values)]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_proposals_are_optunas_of_the_same_seed(sampler):
    params = plane()
    history = told(params)
    found = make({"kind": "numeric", "sampler": sampler}).propose(start_state(params, history, seed=7), 3)
    seed = random.Random("7/1").getrandbits(32)
    ranges = {p.name: optuna.distributions.FloatDistribution(p.ge, p.le) for p in params}
    chosen = optuna.samplers.TPESampler(seed=seed) if sampler == "tpe" else optuna.samplers.RandomSampler(seed)
    study = optuna.create_study(direction="maximize", sampler=chosen)
    base = history[0].score
    for e in history:  # differences to the starting values
        values = dict(e.candidate.values)
        study.add_trial(optuna.create_trial(params=values, distributions=ranges, value=e.score - base))
    assert [dict(c.values) for c in found] == [study.ask(ranges).params for _ in range(3)]


def test_the_proposals_are_those_of_cmaes_told_the_same():
    params = plane()
    history = told(params)
    found = make({"kind": "numeric", "sampler": "cmaes", "candidates": 6}).propose(start_state(params, history), 2)
    bounds = np.array([[0.0, 1.0]] * 2)
    direct = cmaes.CMA(np.array([5 / 15, 10 / 15]), SIGMA, bounds, 20, seed=1, population_size=6)
    for begin in (1, 7, 13):
        direct.tell([(np.array([(e.candidate.values["x"] + 5) / 15, e.candidate.values["y"] / 15]), -e.score)
                     for e in history[begin : begin + 6]])  # fmt: skip
    direct.reseed_rng(random.Random("0/1").getrandbits(32))
    for candidate in found:
        x, y = direct.ask()
        assert candidate.values == pytest.approx({"x": 15 * x - 5, "y": 15 * y})


def test_a_generation_is_whole_steps():
    # 4 + 3 ln d: 4, 6, 8 and 11
    assert [generation_size(d, 1) for d in (1, 2, 5, 12)] == [4, 6, 8, 11]
    assert [generation_size(d, 4) for d in (1, 2, 5, 12)] == [4, 8, 8, 12] and generation_size(2, 20) == 20


def test_a_failed_run_is_the_worst_of_its_generation():
    rng = random.Random(0)
    at = [([rng.random(), rng.random()], rng.random()) for _ in range(7)]
    lost = [(p, None if i == 4 else s) for i, (p, s) in enumerate(at)]
    worst = [(p, -9.0 if i == 4 else s) for i, (p, s) in enumerate(at)]
    assert next(points(lost, 6, 1)) == next(points(worst, 6, 1)) != next(points(at, 6, 1))


TASKS = {  # parameters, score, its maximum, evaluations
    "branin": (plane, branin, -OPTIMUM, 64), "sphere 5": (lambda: cube(5), sphere, 0, 48),
    "sphere 12": (lambda: cube(12), sphere, 0, 40), "one": (lambda: cube(1), sphere, 0, 40),
    "conditional": (mixed, conditional, 0.3, 40),
    "open": (lambda: [trace.param(1.0, name=f"x{i}") for i in range(3)],
             lambda v: sphere({k: x / 4 for k, x in v.items()}), 0, 40),
}  # fmt: skip


@pytest.mark.parametrize(
    ("sampler", "task"), [*(("tpe", task) for task in TASKS), *(("cmaes", t) for t in TASKS if t != "conditional")]
)
def test_it_is_better_than_random_draws_at_the_same_budget(sampler, task):
    make_params, score, best, budget = TASKS[task]
    params = make_params()

    def lost(optimizer, seed):
        """How many decimal places the best score is off."""
        return math.log10(best - search(optimizer, params, score, budget, seed) + 1e-6)

    optimizer = {"kind": "numeric", "sampler": sampler}
    low, _ = interval([lost("random", seed) - lost(optimizer, seed) for seed in range(10)])
    assert low > 0, f"{low:.3f}"


def test_noise_does_not_mislead_it():
    def truth(optimizer, seed):
        """How far the values with the best noisy score are from the optimum."""
        score, kept = noisy(seed), {}
        search(optimizer, cube(3), lambda v: kept.setdefault(tuple(v.values()), score(v)), 48, seed)
        return sphere(dict(enumerate(max(kept, key=kept.get))))

    low, _ = interval([truth("numeric", seed) - truth("random", seed) for seed in range(10)])
    assert low > 0


def test_branin_is_nearly_solved_in_200_evaluations():
    found = [search({"kind": "numeric", "sampler": "auto"}, plane(), branin, 200, seed) for seed in range(3)]
    assert sorted(-s - OPTIMUM for s in found)[1] < 0.01


def limits():
    return [
        trace.param(0.5, name="both", ge=0.1, le=0.7), trace.param(-2.0, name="low", ge=-2.5),
        trace.param(3, name="high", le=3), trace.param(1e6, name="free"), trace.param(7, name="whole", ge=3, le=9),
        trace.param(1e-4, name="log", ge=1e-6, le=1.0), trace.param(64, name="log whole", ge=1, le=4096),
        trace.param(2.0, name="one", ge=2, le=2), trace.param(5, name="half", ge=1.5, le=7.5),
        trace.param(0.0, name="huge", ge=-1.7e308, le=1.7e308), trace.param("b", name="choice", choices=["a", "b"]),
        trace.param(True, name="flag"), trace.param(2, name="only", choices=[2]),
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random", "auto"])
@pytest.mark.parametrize("towards", [-1, 1])
def test_bounds_are_kept_wherever_the_scores_lead(sampler, towards):
    params = limits()

    def score(v):
        numbers = [math.atan(v[p.name]) for p in params if p.kind in ("number", "integer")]
        return towards * sum(numbers)

    optimizer = {"kind": "numeric", "sampler": sampler, "candidates": 8}
    for seed in range(2):
        search(optimizer, params, score, 40, seed)  # checks every value against its parameter


def test_whole_numbers_reach_both_ends_and_open_ones_go_far():
    params = [trace.param(5, name="k", ge=0, le=9)]
    for best in (0, 9):
        assert search("numeric", params, lambda v, best=best: -abs(v["k"] - best), 10) == 0  # ten values in all
    far = search("numeric", [trace.param(1.0, name="x")], lambda v: -abs(v["x"] - 1000), 64)
    assert far > -500


def test_on_a_log_scale_small_numbers_are_found():
    rate = [trace.param(0.5, name="rate", ge=1e-6, le=1.0)]

    def score(v):
        return -abs(math.log10(v["rate"]) + 4)

    wins = [search("numeric", rate, score, 16, s) - search({"kind": "numeric", "log": []}, rate, score, 16, s)
            for s in range(10)]  # fmt: skip
    assert interval(wins)[0] > 0
    with pytest.raises(ConfigError, match="log names 'size', which is no number"):
        make({"kind": "numeric", "log": ["size"]}).propose(start_state(rate), 1)
    with pytest.raises(ConfigError, match="'x' starts at 0"):
        make({"kind": "numeric", "log": ["x"]}).propose(start_state([trace.param(0.0, name="x")]), 1)


def test_a_small_space_is_tried_whole_and_nothing_twice():
    params = [trace.param("a", name="c", choices=list("abc")), trace.param(0, name="k", ge=0, le=2)]
    seen, state = set(), start_state(params)
    for candidate in make("numeric").propose(state, 20):
        seen.add(tuple(candidate.values.values()))
    assert len(seen) == 8  # of nine the start was tried
    history = [evaluation({"c": c, "k": k}, 0.0) for c in "abc" for k in range(3)]
    assert make("numeric").propose(start_state(params, history), 4) == []


def test_a_constraint_is_obeyed():
    params = [trace.param(0.1, name="x", ge=0, le=1, constraint=lambda x: x < 0.3 or "too large")]
    found = make("numeric").propose(start_state(params), 8)
    assert len(found) == 8 and all(c.values["x"] < 0.3 for c in found)


def test_other_kinds_keep_their_values_and_alone_they_are_an_error():
    text = trace.param("a", name="text")
    found = make("numeric").propose(start_state([text, *cube(1)]), 2)
    assert all(list(c.values) == ["x0"] for c in found)
    with pytest.raises(InputError, match=r"numeric is given text \(text\)"):
        make("numeric").propose(start_state([text]), 2)


@pytest.fixture
def run(tmp_path):
    def call(name="run", params=None, feedback=None, **options):
        params = params or mixed()
        options = {"budget": Budget(evaluations=24), "optimizer": "numeric", "workers": 1, **options}

        @trace.node
        def use(*values):
            return json.dumps(dict(zip([p.name for p in params], values, strict=True)))

        score = feedback or (lambda example, out: conditional(json.loads(out)) - example / 10)
        return optimize(lambda example: use(*params), [1, 2, 3, 4], feedback=score, run_dir=tmp_path / name, **options)

    return call


def told_of(result):
    return [(e.step, dict(e.candidate.values), e.scores, e.accepted) for e in result.history]


@pytest.mark.parametrize("options", [{}, {"sampler": "cmaes"}, {"startup": 3, "sampler": "auto"}])
def test_a_resumed_run_goes_on_exactly(run, options):
    optimizer = {"kind": "numeric", **options}

    def stop(report):
        if report.row["step"] in (2, 4):
            raise Stopped("enough")

    whole = run("whole", optimizer=optimizer, batch_size=2)
    for _ in range(2):
        run("parts", optimizer=optimizer, batch_size=2, callbacks=[stop])
    parts = run("parts", optimizer=optimizer, batch_size=2)
    assert told_of(parts) == told_of(whole) and len(whole.history) == 25


def test_it_says_nothing_on_the_terminal_and_leaves_optunas_logging_as_it_is(run, capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        run()
        assert optuna.logging.get_verbosity() == logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    said = capfd.readouterr()
    assert "study" not in said.err + said.out and "Trial" not in said.err + said.out


def test_failures_are_avoided_and_objectives_are_meant(run):
    def fails(example, out):
        values = json.loads(out)
        if values["which"] != "b":
            raise ValueError("out of order")
        return Feedback({"one": conditional(values), "other": 0.0})

    params = mixed()
    params[0].set("b")
    result = run(params=params, feedback=fails)
    assert result.best["which"] == "b" and result.score > result.baseline
    later = [e for e in result.history if e.step > 3]
    assert sum(e.candidate.values["which"] == "b" for e in later) > len(later) / 2


def test_a_ranker_is_followed_across_steps(run):
    params = cube(2, start=-2.0)
    ranker = ProgramRanker(lambda items, question: {one: sphere(json.loads(text)) for one, text in items.items()})
    result = run(params=params, feedback=ranker, budget=Budget(evaluations=40))
    assert sphere(result.best) > -0.5 and result.score == 1
