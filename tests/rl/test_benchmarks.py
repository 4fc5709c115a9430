"""What the benchmarks of training compute beside their runs."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.azr import BODIES, CONFIG, held_out_rows
from benchmarks.unlearning import at_forget_probability
from rl.config import load

DATA = Path(__file__).parents[2] / "rl" / "triplets" / "data" / "one_line.jsonl"


def test_the_held_out_triplets_are_those_that_were_drawn_and_none_is_shown_in_training() -> None:
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    assert rows == held_out_rows()
    pairs = Counter((row["program"], row["inputs"][0]) for row in rows)
    assert len(pairs) == len(rows) == 150 and {len(set(row["inputs"])) for row in rows} == {4}
    assert {program for program, _ in pairs} <= {f"def f(x): return {body}" for body in BODIES}
    seeds = load(CONFIG).resolved()["source"]["seeds"]
    examples = [("def f(x): return max(x, 5)", "3"), ("def f(x): return x", "7"), ("def f(x): return min(x, 4)", "2")]
    assert not pairs.keys() & {*((seed["program"], seed["inputs"][0]) for seed in seeds), *examples}


def test_between_two_evaluations_utility_is_linear_in_the_logarithm_of_the_forget_probability() -> None:
    found = [(1.0, 0.8), (0.1, 0.6), (0.001, 0.2), (0.5, 0.1)]
    assert at_forget_probability(found, 0.1) == pytest.approx(0.6)
    assert at_forget_probability(found, math.sqrt(0.1)) == pytest.approx(0.7)  # halfway, in the logarithm
    assert at_forget_probability(found, 0.01) == pytest.approx(0.4)
    assert at_forget_probability(found, 0.0001) is None
