"""Who lives where, who moves, who leaves, who is drawn and who is shown."""

from __future__ import annotations

import random
from collections import Counter

from engine import Feedback
from engine.optimizers import Candidate, Evaluation
from engine.optimizers._islands import drawn, inspirations, island_of, islands


def evaluation(name, *scores, step=0):
    feedback = tuple(Feedback(text="it failed") if s is None else Feedback(s) for s in scores)
    failed = tuple(s is None for s in scores)
    return Evaluation(Candidate({"x": name}), tuple(range(len(scores))), feedback, step=step, failed=failed)


def names(found):
    return [[e.candidate.values["x"] for e in island] for island in found]


def at(history, step, **options):
    return names(islands(history, step, **{"count": 3, "population": 4, "migrate_every": 100, **options}))


def test_a_step_works_on_one_island_after_the_other():
    assert [island_of(step, 3) for step in range(1, 8)] == [0, 1, 2, 0, 1, 2, 0]


def test_islands_share_the_start_and_nothing_else_before_a_migration():
    history = [evaluation("start", 0)]
    history += [evaluation(f"v{step}", step / 100, step=step) for step in range(1, 10)]
    assert at(history, 1) == [["start"]] * 3
    assert at(history, 10) == [
        ["v7", "v4", "v1", "start"],
        ["v8", "v5", "v2", "start"],
        ["v9", "v6", "v3", "start"],
    ]


def test_a_migration_copies_the_best_of_each_to_the_next_in_a_ring_at_its_step():
    history = [evaluation("start", 0)]
    history += [evaluation(f"v{step}", score, step=step) for step, score in enumerate((3, 2, 1, 0.5, 0.5, 0.5), 1)]
    assert at(history, 6, migrate_every=6) == [["v1", "v4", "start"], ["v2", "v5", "start"], ["v3", "start"]]
    assert at(history, 7, migrate_every=6) == [
        ["v1", "v3", "v4", "start"],  # from the last to the first
        ["v1", "v2", "v5", "start"],
        ["v2", "v3", "v6", "start"],  # all best are those of before the migration: v1 went one island far
    ]


def test_what_is_there_already_is_not_copied_again_and_one_island_has_nobody_to_send_to():
    history = [evaluation("start", 1)]
    assert at(history, 9, migrate_every=2) == [["start"]] * 3
    history += [evaluation("v1", 2, step=1)]
    assert at(history, 9, count=1, migrate_every=1) == [["v1", "start"]]


def test_the_newest_of_equals_stands_first_and_failed_runs_last():
    history = [evaluation("start", 1), evaluation("failed", None, step=1), evaluation("new", 1, step=4)]
    assert at(history, 5)[0] == ["new", "start", "failed"]


def test_twins_leave_a_full_island_first_then_the_worst():
    history = [
        evaluation("start", 0, 1),
        evaluation("best", 1, 1, step=1),
        evaluation("twin", 0, 1, step=2),  # as the start on every example
        evaluation("other", 1, 0, step=3),  # as good as the start, elsewhere
        evaluation("worst", 0, 0, step=4),
    ]
    options = {"count": 1, "migrate_every": 100}
    assert at(history, 5, population=5, **options) == [["best", "other", "twin", "start", "worst"]]
    assert at(history, 5, population=4, **options) == [["best", "other", "twin", "worst"]]
    assert at(history, 5, population=3, **options) == [["best", "other", "twin"]]


def test_parents_are_drawn_by_rank():
    island = [evaluation(name, 0) for name in "abc"]
    rng, times = random.Random(0), 6000
    counts = Counter(drawn(island, rng).candidate.values["x"] for _ in range(times))
    for name, share in zip("abc", (6 / 11, 3 / 11, 2 / 11), strict=True):
        assert abs(counts[name] / times - share) < 4 * (share * (1 - share) / times) ** 0.5


def test_inspirations_are_the_best_and_those_that_are_better_where_others_are_not():
    parent = evaluation("parent", 1, 0, 0, 0)
    island = [
        evaluation("best", 1, 1, 1, 0),
        evaluation("second", 1, 1, 0, 0),
        evaluation("alone", 0, 0, 0, 1),
        parent,
        evaluation("failed", None, 0, 0, 0),
    ]

    def shown(count):
        return names([inspirations(island, parent.candidate.values, count)])[0]

    assert [shown(n) for n in range(4)] == [[], ["best"], ["best", "alone"], ["best", "second", "alone"]]
    assert shown(9) == ["best", "second", "alone", "failed"]
