"""Facts of ZO-RankSGD: what a ranking changes, what it reaches, and that a state is the whole of it."""

import itertools
import json
import statistics

import numpy as np
import pytest
import torch
from scipy.optimize import rosen

from engine.errors import CheckpointError, EngineError, InputError
from engine.ranking import ProgramRanker, Ranker, Ranking, RecordedRanker
from rl.methods.zo_ranksgd import Subspace, ZORankSGD, loss_ranker, ranking_weights, run

PAPER = {"m": 15, "k": 15, "mu": 0.01, "eta": 1.0}


def quadratic(x):
    return float(x.square().sum())


def start(dims, seed):
    return torch.randn(dims, generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64)


def descend(loss, dims, seed, shown=1000, ranked_by=None, **settings):
    """The loss after that many candidates were ranked, by it or by something else."""
    optimizer, ranker = ZORankSGD(start(dims, seed), seed=seed, **PAPER | settings), loss_ranker(ranked_by or loss)
    while (shown := shown - len(optimizer.ask())) >= 0:
        run(optimizer, ranker, 1)
    return loss(optimizer.x)


def small(seed=0, **settings):
    return ZORankSGD([1.0, -2.0, 0.5], seed=seed, **{"m": 4, "k": 3, "mu": 0.1, "eta": 0.5} | settings)


def told(optimizer, rounds, loss=quadratic):
    run(optimizer, loss_ranker(loss), rounds)
    return optimizer


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_the_step_is_the_weighted_sum_of_what_was_shown():
    """Without line search: x - eta sum_r w_r (candidate_r - x) / mu, the candidates in the order of the ranking."""
    optimizer = small(line_search=0)
    before, shown = optimizer.x, optimizer.ask()
    order = sorted(shown)
    optimizer.tell(Ranking([[one] for one in order[:3]], order[3:]))
    weights = zip(ranking_weights(4, 3), order, strict=True)
    step = sum(weight * (shown[one] - before) / 0.1 for weight, one in weights)
    torch.testing.assert_close(optimizer.x, before - 0.5 * step, atol=1e-5, rtol=0)


def test_a_line_search_shows_x_and_the_shrinking_steps_and_the_winner_is_the_next_x():
    optimizer = told(small(gamma=0.5, line_search=3), 1)
    x, shown = optimizer.x, optimizer.ask()
    assert optimizer.is_line_search
    steps = sorted(shown, key=lambda one: float((shown[one] - x).norm()))
    lengths = [float((shown[one] - x).norm()) for one in steps]
    assert lengths[0] == 0
    assert [b / a for a, b in itertools.pairwise(lengths[1:])] == pytest.approx([2, 2], rel=1e-5)
    optimizer.tell(Ranking([[steps[2]]], [one for one in steps if one != steps[2]]))
    assert torch.equal(optimizer.x, shown[steps[2]]) and not optimizer.is_line_search


@pytest.mark.parametrize("is_accumulated", [True, False])
def test_where_x_wins_the_next_estimate_is_averaged_into_the_old(is_accumulated):
    optimizer = small(accumulate=is_accumulated, line_search=1)
    steps = []
    for _ in range(3):
        told(optimizer, 1)
        x, shown = optimizer.x, optimizer.ask()
        [own] = [one for one in shown if torch.equal(shown[one], x)]
        [step] = [one for one in shown if one != own]
        steps.append(shown[step] - x)
        optimizer.tell(Ranking([[own], [step]]))
        assert torch.equal(optimizer.x, x)
    fresh = []
    for rounds in range(3):  # the same noise, as rounds have it, with nothing to average
        other = small(accumulate=False, line_search=1)
        for _ in range(rounds):
            other.tell(Ranking(unranked=list(other.ask()), cannot_judge=True))
            other.tell(Ranking(unranked=list(other.ask()), cannot_judge=True))
        told(other, 1)
        shown = other.ask()
        [step] = [one for one in shown if not torch.equal(shown[one], other.x)]
        fresh.append(shown[step] - other.x)
    expected = [fresh[0], (fresh[0] + fresh[1]) / 2, sum(fresh) / 3] if is_accumulated else fresh
    for step, wanted in zip(steps, expected, strict=True):
        torch.testing.assert_close(step, wanted, atol=1e-5, rtol=0)


def test_a_tie_with_x_is_a_win_of_x_and_of_tied_steps_the_longest_is_taken():
    for has_x in (True, False):
        optimizer = told(small(), 1)
        x, shown = optimizer.x, optimizer.ask()
        order = sorted(shown, key=lambda one: float((shown[one] - x).norm()))
        best = [one for one in order[-2:] + order[:1] if has_x or one != order[0]]
        optimizer.tell(Ranking([best], [one for one in order if one not in best]))
        assert torch.equal(optimizer.x, x if has_x else shown[order[-1]])


@pytest.mark.parametrize("transform", [lambda f: f**3, lambda f: 1e6 * f - 7, np.log])
def test_any_monotone_transform_gives_the_very_same_path(transform):
    plain, other = small(), small()
    told(plain, 12)
    told(other, 12, lambda x: float(transform(quadratic(x))))
    assert torch.equal(plain.x, other.x)


@pytest.mark.parametrize(
    "loss, dims, bar, settings",
    [
        (quadratic, 20, 0.02, {}),
        (quadratic, 20, 0.004, {"eta": 2.0, "gamma": 0.5, "line_search": 6}),
        (quadratic, 100, 0.8, {"eta": 2.0, "gamma": 0.5, "line_search": 6}),
        (lambda x: float(rosen(x.numpy())), 20, 60.0, {}),
    ],
    ids=["quadratic-20", "accumulating-20", "accumulating-100", "rosenbrock-20"],
)
def test_what_a_thousand_ranked_points_reach(loss, dims, bar, settings):
    assert statistics.median(descend(loss, dims, seed, **settings) for seed in range(3)) <= bar


def test_a_fixed_step_and_shuffled_rankings_do_not_get_there():
    fixed = [descend(quadratic, 20, seed, line_search=0) for seed in range(2)]
    nonsense = lambda x: float(torch.frac(x.sum() * 1e6))  # noqa: E731
    shuffled = [descend(quadratic, 20, seed, ranked_by=nonsense) for seed in range(2)]
    assert min(fixed) > 0.02
    assert min(shuffled) > 1.0


def test_noise_of_the_oracle_costs_little_and_top_five_of_fifteen_is_enough():
    optimizer = ZORankSGD(start(20, 0), **PAPER | {"k": 5, "mu": 0.1}, gamma=0.5)
    before = quadratic(optimizer.x)
    run(optimizer, loss_ranker(quadratic, noise_std=0.2), 100)
    assert quadratic(optimizer.x) < before / 10


@pytest.mark.parametrize(
    "x0",
    [
        {"prompt": torch.ones(3, 4), "scale": torch.tensor(2.0)},
        torch.ones(1, 4, 2, 2, dtype=torch.bfloat16),
        np.ones(5),
    ],
    ids=["named", "latent", "array"],
)
def test_candidates_and_x_have_the_form_of_x0(x0):
    optimizer = ZORankSGD(x0, m=6, k=6, mu=0.05, eta=1.0, gamma=0.5)
    values = (lambda v: list(v.values())) if isinstance(x0, dict) else (lambda v: [v])
    forms = [(tuple(t.shape), t.dtype) for t in map(torch.as_tensor, values(x0))]
    loss = lambda v: sum(float(t.float().square().sum()) for t in values(v))  # noqa: E731
    before = loss(optimizer.x)
    run(optimizer, loss_ranker(loss), 12)
    for value in [optimizer.x, *optimizer.ask().values()]:
        assert [(tuple(t.shape), t.dtype) for t in values(value)] == forms
    assert loss(optimizer.x) < before / 2


def test_a_few_directions_of_an_adapter_go_where_the_ranker_wants_them():
    adapter = {"down": torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), "up": torch.zeros(4, 16)}
    space = Subspace(adapter, dims=10)
    goal = space.at(torch.linspace(-1, 1, 10))
    distance = lambda c: sum(float((space.at(c)[n] - goal[n]).square().sum()) for n in goal)  # noqa: E731
    optimizer = ZORankSGD(space.zeros(), m=8, k=4, mu=0.05, eta=0.5, gamma=0.5)
    before = distance(optimizer.x)
    run(optimizer, loss_ranker(distance), 30)
    assert distance(optimizer.x) < before / 5


def test_a_state_of_json_gives_the_very_same_next_candidates_at_every_point():
    optimizer = small(gamma=0.5)
    for number in range(14):
        restored = small(gamma=0.5)
        restored.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
        assert same(restored.ask(), optimizer.ask()) and torch.equal(restored.x, optimizer.x)
        ids = list(optimizer.ask())
        if number % 5 == 3:
            optimizer.tell(Ranking(unranked=ids, cannot_judge=True))
        elif number % 5 == 4:
            optimizer.tell(Ranking([ids[:2]], ids[2:3]))
        else:
            told(optimizer, 1)
    assert len(json.dumps(optimizer.state_dict())) < 1000


def test_a_state_has_no_part_of_an_optimizer_that_goes_on():
    optimizer = told(small(), 2)
    state = optimizer.state_dict()
    before = json.dumps(state)
    told(optimizer, 2)
    assert json.dumps(state) == before


def test_a_state_of_something_else_or_a_damaged_one_is_refused():
    state = told(small(), 3).state_dict()
    for other in (small(seed=1), small(gamma=0.5), ZORankSGD([1.0, -2.0, 0.6], m=4, k=3, mu=0.1, eta=0.5)):
        with pytest.raises(CheckpointError, match="another x0"):
            other.load_state_dict(state)
    optimizer = told(small(), 5)
    before = optimizer.state_dict()
    for history in ([3], [[[0], [9]]], [[[0], [0]]], [[[0], [1]], 6], [[[0], [1]], [[0], [1]]], [None], 5):
        with pytest.raises(CheckpointError, match="history"):
            optimizer.load_state_dict(state | {"history": history})
        assert optimizer.state_dict() == before


@pytest.mark.parametrize("rounds", [0, 1])
def test_who_cannot_judge_or_ties_all_teaches_nothing_and_new_candidates_come(rounds):
    for is_tie in (True, False):
        optimizer = told(small(), rounds)
        x, shown = optimizer.x, optimizer.ask()
        optimizer.tell(Ranking([list(shown)]) if is_tie else Ranking(unranked=list(shown), cannot_judge=True))
        assert torch.equal(optimizer.x, x) and not optimizer.is_line_search
        assert not set(optimizer.ask()) & set(shown)
        new = torch.stack(list(optimizer.ask().values()))
        assert not any(torch.equal(candidate, one) for candidate in new for one in shown.values())


def test_the_order_in_which_equals_are_named_leaves_no_trace():
    """A form names them as they stand on an annotator's page, a program as it was given them."""
    one, other = (ZORankSGD(torch.zeros(4), m=5, k=2, mu=1.0, eta=1.0) for _ in range(2))
    a, b, c, d, e = one.ask()
    one.tell(Ranking([[a], [b, c]], unranked=[d, e]))
    other.tell(Ranking([[a], [c, b], [e], [d]]))
    assert one.state_dict() == other.state_dict() and list(one.ask()) == list(other.ask())


def test_an_answer_to_a_round_of_another_history_is_stale():
    """A run that was taken back to an earlier state and told something else has other candidates in that round."""
    one, other = small(line_search=0), small(line_search=0)
    ids = list(one.ask())
    one.tell(Ranking([[first] for first in ids]))
    other.tell(Ranking([[first] for first in reversed(ids)]))
    with pytest.raises(InputError, match="no candidate of this round"):
        other.tell(Ranking([list(one.ask())]))


def test_ids_say_nothing_and_are_of_one_round_of_one_run():
    optimizer = told(small(), 1)
    shown = [list(optimizer.ask()) for optimizer in (small(), small(seed=1), optimizer)]
    assert not set(shown[0]) & set(shown[1]) and not set(shown[0]) & set(shown[2])
    places = set()
    for seed in range(12):  # x is not always shown at the same place
        optimizer = told(small(seed=seed), 1)
        places |= {i for i, value in enumerate(optimizer.ask().values()) if torch.equal(value, optimizer.x)}
    assert len(places) > 2


@pytest.mark.parametrize("kind", ["stale", "unknown", "not a ranking"])
def test_an_answer_to_another_question_is_refused_and_changes_nothing(kind):
    optimizer = small()
    stale = Ranking([list(optimizer.ask())])
    told(optimizer, 1)
    now, state = optimizer.ask(), json.dumps(optimizer.state_dict())
    answer = {"stale": stale, "unknown": Ranking([[*now, "x"]]), "not a ranking": dict.fromkeys(now, 1.0)}[kind]
    said = "Ranking" if kind == "not a ranking" else "no candidate of this round(.|\n)*" + next(iter(now))
    with pytest.raises(InputError, match=said):
        optimizer.tell(answer)
    assert json.dumps(optimizer.state_dict()) == state
    with pytest.raises(InputError, match="stands twice"):
        Ranking([[next(iter(now))]], [next(iter(now))])


@pytest.mark.parametrize(
    "change",
    [{"m": 1}, {"k": 5}, {"mu": 0}, {"mu": float("nan")}, {"eta": -1}, {"eta": float("inf")}, {"gamma": 1},
     {"line_search": -1}, {"line_search": 2.5}, {"line_search": True}],
)  # fmt: skip
def test_settings_that_cannot_be(change):
    with pytest.raises(InputError, match=f"{next(iter(change))} is|oracle"):
        small(**change)


def test_a_loss_of_nan_is_an_error_and_infinity_is_the_worst():
    with pytest.raises(InputError, match="NaN"):
        told(small(), 1, lambda x: float("nan"))
    [ranking] = (ranker := loss_ranker(float)).gather([ranker.ask({"a": float("inf"), "b": 1.0, "c": -1.0})])
    assert ranking == Ranking([["c"], ["b"], ["a"]])


def test_rewards_and_recorded_rankings_are_rankers_like_any_other(tmp_path):
    """A record of the first run answers the second one, with no one else to ask."""
    reward = ProgramRanker(lambda items, question: {one: -sum(v * v for v in x) for one, x in items.items()})
    shown = lambda candidate: [round(v, 6) for v in candidate.tolist()]  # noqa: E731
    first = run(small(), RecordedRanker(tmp_path / "votes.jsonl", reward), 6, shown=shown)
    again = run(small(), RecordedRanker(tmp_path / "votes.jsonl"), 6, shown=shown)
    assert torch.equal(first, again)
    assert quadratic(first) < 5.25


def test_an_answer_that_does_not_come_is_an_error_and_what_was_told_stands():
    class Silent(Ranker):
        def ask(self, items, *, question=""):
            return "0"

        def poll(self, ticket):
            return None

    optimizer = told(small(), 2)
    with pytest.raises(EngineError, match="1 of 1 rankings"):
        run(optimizer, Silent(), 3, deadline_s=0.0)
    assert optimizer.round == 2
