"""Program triplets: which are valid, which answers are right, and how tasks are written and read."""

from __future__ import annotations

import pytest

from engine.errors import DataError
from rl.triplets import FORMS, TASKS, Limits, Proposal, Triplet, are_right, checked
from rl.triplets.literals import arguments, literal, written
from rl.triplets.seeds import Seed, read_seeds, triplets_of

LIMITS = Limits(timeout_s=2.0)
DOUBLE = "def f(x):\n    return 2 * x"


def outcome(program: str, *inputs: str) -> Triplet | str:
    [found] = checked([Proposal("deduction", program, inputs)], LIMITS)
    return found


def test_a_valid_proposal_gets_its_outputs():
    assert outcome(DOUBLE, "3", "'ab'") == Triplet("deduction", DOUBLE, ("3", "'ab'"), "", ("6", "'abab'"))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(x) return x", "syntax"),
        ("def g(x): return x", "function"),
        ("import os\ndef f(x): return os.getcwd()", "import"),
        ("import random\ndef f(x): return random.random()", "import"),
        ("def f(x): return 1 / 0", "failed"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x): return list({'a', 'b', 'c', 'd', 'e'})", "random"),
        ("def f(x): return id(object())", "random"),
        ("def f(x): return float('inf')", "value"),
        ("def f(x): return 'a' * 100_000", "value"),
        ("def f(x): return lambda: 1", "failed"),
        ("def f(x): return " + "(" * 1000 + "x" + ")" * 1000, "syntax"),
        ("#" * 5000, "long"),
    ],
)
def test_what_is_not_valid_says_why(program: str, reason: str):
    assert outcome(program, "3") == reason


def test_deduction_is_by_value_and_exact_type():
    triplet = Triplet("deduction", DOUBLE, ("1",), "", ("{'a': [1, 2.0]}",))
    answers = [
        "{'a': [1, 2.0]}",
        "dict(a=[1, 2.0])",
        "{'a': [True, 2.0]}",
        "{'a': [1, 2]}",
        "{ 'a':[1,2.0] }",
        None,
        "",
    ]
    assert are_right(triplet, answers, LIMITS) == [True, False, False, False, True, False, False]


def test_abduction_takes_any_input_that_gives_the_output():
    triplet = Triplet("abduction", "def f(x): return x * x", ("3",), "", ("9",))
    assert are_right(triplet, ["3", "-3", "2", "9", "exit()", None], LIMITS) == [True, True, False, False, False, False]


def test_induction_is_judged_on_the_hidden_half():
    triplet = Triplet("induction", DOUBLE, ("1", "2", "3", "5"), "", ("2", "4", "6", "10"))
    shown_only = "def f(x): return {1: 2, 2: 4}.get(x)"
    hidden_only = "def f(x): return {3: 6, 5: 10}.get(x)"
    forged = "def f(x):\n    import os\n    return 2 * x"
    answers = ["def f(y): return y + y", shown_only, hidden_only, forged, "not python"]
    assert are_right(triplet, answers, LIMITS) == [True, False, True, False, False]


@pytest.mark.parametrize("text", ["1 + 1", "__import__('os')", "f(3)", "[x for x in (1,)]", "(" * 500, "1; 2", ""])
def test_what_is_no_literal_is_not_read(text: str):
    with pytest.raises(ValueError):
        literal(text)


def test_literals_read_back_as_they_were_written():
    for value in [1, -2.5, "a'b\n", b"\x00", None, True, [1, (2,), {"k": {3, 1, 2}}], (), {}, set(), 10**30]:
        assert literal(written(value)) == value
    assert written({"b", "a"}) == "{'a', 'b'}"  # in one order, whatever the hash seed
    assert arguments("1, 'a'") == (1, "a") and arguments("[1, 2]") == ([1, 2],)
    for value in (float("nan"), float("inf"), frozenset([1])):
        with pytest.raises(ValueError):
            written(value)


@pytest.mark.parametrize("task", TASKS)
def test_the_tagged_form_reads_what_it_asks_for(task):
    form = FORMS["tags"]
    triplet = Triplet(task, DOUBLE, ("1", "2", "3", "4"), "doubles", ("2", "4", "6", "8"))
    question = form.solve(triplet)
    hidden = {"deduction": "\n2\n", "abduction": "```input", "induction": "2 * x"}[task]
    assert hidden not in question.partition("<answer>")[0].replace("```input```", "")
    block = {
        "deduction": "```output\n2\n```",
        "abduction": "```input\n1\n```",
        "induction": f"```python\n{DOUBLE}\n```",
    }
    right = f"<think>so</think> <answer>{block[task]}</answer>"
    assert are_right(triplet, [form.answer("solve", task, right)], LIMITS) == [True]
    assert form.answer("solve", task, block[task]) is None and form.answer("solve", task, f"{right} and more") is None


@pytest.mark.parametrize("name", ["programs", "one_line"])
def test_the_bundled_triplets_are_valid(name: str):
    found = triplets_of(read_seeds(name, []), TASKS, LIMITS)
    assert len(found["deduction"]) >= 20 and all(t.outputs for triplets in found.values() for t in triplets)


def test_a_seed_that_is_no_triplet_is_named(tmp_path):
    with pytest.raises(DataError, match="'failed'"):
        triplets_of([Seed(program="def f(x): return 1 / x", inputs=("0",))], ("deduction",), LIMITS)
    (tmp_path / "mine.jsonl").write_text('{"program": "def f(x): return x", "inputs": []}\n')
    with pytest.raises(DataError, match=r"mine\.jsonl:1"):
        read_seeds("mine.jsonl", [tmp_path])
    with pytest.raises(DataError, match=r"no file 'yours'(.|\n)*programs"):
        read_seeds("yours", [tmp_path])
