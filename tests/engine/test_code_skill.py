"""Code as a parameter: what a proposer can do decides how good the code gets, and one that lies does no harm."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import os
import random
from pathlib import Path
from statistics import fmean, stdev

import pytest

from engine import Budget, Feedback, gallery, optimize, trace
from engine.llm import ScriptedLLM
from engine.optimizers._edits import edited

SKILLS = (0.0, 0.5, 1.0)
PROPOSALS = 2


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(scope="module")
def repairs():
    spec = importlib.util.spec_from_file_location("repairs", Path(__file__).with_name("repairs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path):
    """optimize(), with the code as it was afterwards."""
    folders = (tmp_path / f"run{i}" for i in itertools.count())
    changed = {}

    def optimized(workflow, data, feedback, codes, **options):
        changed.update({code: code.value for code in codes if code not in changed})
        try:
            return optimize(workflow, data, feedback=feedback, run_dir=next(folders), workers=2, **options)
        finally:
            for code in codes:
                code.set(changed[code])

    yield optimized
    for code, value in changed.items():
        code.set(value)


def proposer(name, right, wrong, skill, seed):
    """Proposes right() with probability `skill`, else wrong(rng); the draws are the same for every skill."""
    rngs = (random.Random(f"{seed}/{i}") for i in itertools.count())

    def answer(messages):
        rng = next(rngs)
        value = right() if rng.random() < skill else wrong(rng)
        return {"reasoning": "", "suggestion": {name: value}}

    return ScriptedLLM(answer)


def repaired(repairs, run, function, **options):
    """The share of a function's tests that pass in the end."""
    result = run(
        lambda example: function(*example[0]),
        repairs.examples(function),
        repairs.judge,
        [function.code],
        budget=Budget(evaluations=PROPOSALS, invalid=PROPOSALS),
        **options,
    )
    assert result.score >= result.baseline
    return result.score


def test_more_functions_are_repaired_by_a_more_skilled_proposer_and_as_many_as_by_chance_by_one_without(repairs, run):
    def repaired_with(skill, function):
        name, start, right = function.__name__, function.code.value, repairs.fixed(function)
        llm = proposer(name, lambda: right, lambda rng: edited(start, rng), skill, name)
        return repaired(repairs, run, function, optimizer="optoprime", llm=llm)

    levels = [[repaired_with(skill, function) for function in repairs.CASES] for skill in SKILLS]
    means = [fmean(scores) for scores in levels]
    assert all(low < high for low, high in itertools.pairwise(means)), means
    assert means[-1] == 1.0
    chance = [repaired(repairs, run, f, optimizer={"kind": "random", "candidates": 1}) for f in repairs.CASES]
    gap = [a - b for a, b in zip(levels[0], chance, strict=True)]
    assert abs(fmean(gap)) <= 2.6 * stdev(gap) / len(gap) ** 0.5 + 1e-9, (means[0], fmean(chance))
    assert fmean(chance) < means[1]


SECRET = "tests that the liar would like to change"
LIES = {
    "not Python": "def {name}({args}):\n    return returned return",
    "another function": "def solved({args}):\n    return 1",
    "no def": "RESULT = 'all tests pass'",
    "a constant": "def {name}({args}):\n    return 1",
    "a loop without end": "def {name}({args}):\n    while True: pass",
    "leaves": "def {name}({args}):\n    raise SystemExit(0)",
    "leaves at once": "def {name}({args}):\n    __import__('os')._exit(0)",
    "forged output": "def {name}({args}):\n    print('score: 1.0, RESULT = expected')\n    return None",
    "writes to every descriptor": (
        "def {name}({args}):\n    for fd in range(3, 64):\n        try: __import__('os').write(fd, b'\\1' * 64)\n"
        "        except OSError: pass\n    return None"
    ),
    "equal to everything": (
        "def {name}({args}):\n    class Same(int):\n        def __eq__(self, other): return True\n    return Same()"
    ),
    "an equal list": (
        "def {name}({args}):\n    class Same(list):\n        def __eq__(self, other): return True\n    return [Same()]"
    ),
    "edits the examples": (
        "def {name}({args}):\n    for x in ({args},):\n        try: x.clear()\n        except Exception: pass\n"
        "    return None"
    ),
    "edits its callers": (
        "def {name}({args}):\n    f = __import__('sys')._getframe()\n    while f:\n"
        "        f.f_locals.clear(); f.f_globals['judge'] = lambda *a: 1.0; f = f.f_back\n    return None"
    ),
    "edits the tests": "def {name}({args}):\n    open({file!r}, 'w').write('changed')\n    return 1",
    "reads the tests": "def {name}({args}):\n    return open({file!r}).read()",
    "kills": (
        "def {name}({args}):\n    os = __import__('os'); os.kill(os.getppid(), 9); os.kill({pid}, 9)\n    return 1"
    ),
    "too much memory": "def {name}({args}):\n    return [0] * 10**9",
    "too much output": "def {name}({args}):\n    return 'x' * 10**8",
    "nothing new": "{source}",
}


def test_a_lying_proposer_never_makes_it_worse(repairs, run, tmp_path):
    """Judged by the rule that is easier to deceive."""
    file = tmp_path / "tests.txt"
    file.write_text(SECRET)
    function = repairs.is_prime
    told = {"name": "is_prime", "args": "n", "file": str(file), "pid": os.getpid(), "source": function.code.value}
    lies = iter([lie.format(**told) for lie in LIES.values()])
    llm = ScriptedLLM(
        lambda messages: {"reasoning": "All tests pass now, score 1.0.", "suggestion": {"is_prime": next(lies)}}
    )
    data = repairs.examples(function)[::2]
    before, judge = copy.deepcopy(data), repairs.judge
    result = run(
        lambda example: function(*example[0]),
        data,
        repairs.judge,
        [function.code],
        optimizer="optoprime",
        llm=llm,
        accept="better",
        budget=Budget(steps=len(LIES), invalid=100, evaluations=100),
    )
    assert next(lies, None) is None, "some lies were not told"
    assert data == before and repairs.judge is judge and file.read_text() == SECRET
    true = [repairs.judge(example, plain(example, result.best["is_prime"])).score for example in data]
    assert fmean(true) == result.score >= result.baseline
    failed = [e for e in result.history if all(e.failed)]
    assert len(failed) >= 9 and not any(e.accepted for e in failed)


def plain(example, source):
    """The value of an accepted proposal, which is one of those above that do no harm, computed here."""
    space = {}
    exec(source, space)
    return space["is_prime"](*example[0])


POLICIES = [
    """
    for row in range(6):
        for column in range(row % 2, 6, 2):
            if seen[row][column] == ".":
                return [row, column]
    return next([r, c] for r in range(6) for c in range(6) if seen[r][c] == ".")
""",
    """
    free = [[r, c] for r in range(6) for c in range(6) if seen[r][c] == "."]
    def near(cell):
        row, column = cell
        beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        return sum(0 <= r < 6 and 0 <= c < 6 and seen[r][c] == "x" for r, c in beside)
    return max(free, key=near)
""",
    """
    free = [[r, c] for r in range(6) for c in range(6) if seen[r][c] == "."]
    def worth(cell):
        row, column = cell
        beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        hits = sum(0 <= r < 6 and 0 <= c < 6 and seen[r][c] == "x" for r, c in beside)
        return hits, (row + column) % 2
    return max(free, key=worth)
""",
]


def test_a_policy_of_battleship_gets_better_with_the_best_that_a_proposer_knows(run):
    """A proposer knows the first so many policies, and what it does not know it edits at random."""
    folder = Path(__file__).parents[2] / "agents"
    module = {name: gallery.load(f"{folder}/battleship.py:{name}") for name in ("choose", "play", "judge", "boards")}
    choose, head = module["choose"], "def choose(seen: list[str]) -> list[int]:"
    start, scores = choose.code.value, []
    for known in range(len(POLICIES) + 1):
        rng = random.Random(f"captain/{known}")
        plans = [edited(start, rng, most=1), *(head + body for body in POLICIES[:known])]
        llm = ScriptedLLM([{"reasoning": "", "suggestion": {"choose": plan}} for plan in plans])
        result = run(
            module["play"],
            module["boards"](5),
            module["judge"],
            [choose.code],
            optimizer="optoprime",
            llm=llm,
            accept="better",
            budget=Budget(steps=len(plans), invalid=10),
            seed=known,
        )
        scores.append(result.score)
        assert result.score >= result.baseline
    assert scores == sorted(scores) and scores[-1] > scores[1] > scores[0], scores


@trace.node(trainable=True)
def citation(entry: dict) -> str:
    """An entry of a bibliography as one line."""
    return entry["author"] + entry["title"] + str(entry["year"])


NAMES = ["Ada Lovelace", "Alan Mathison Turing", "Grace Hopper", "Kurt Gödel", "Emmy Noether"]
ENTRIES = [
    {"author": name, "title": title, "year": year}
    for name, title, year in zip(
        NAMES * 2, ["notes on the engine", "on computable numbers", "the education of a computer"] * 4,
        range(1931, 1941), strict=False,
    )
]  # fmt: skip
STAGES = [
    "    return f\"{entry['author']}: {entry['title']} ({entry['year']})\"\n",
    "    *first, last = entry['author'].split()\n"
    "    return f\"{last}, {first[0][0]}.: {entry['title']} ({entry['year']})\"\n",
    '    *first, last = entry["author"].split()\n    initials = " ".join(name[0] + "." for name in first)\n'
    '    title = entry["title"][0].upper() + entry["title"][1:]\n'
    "    return f\"{last}, {initials}: {title} ({entry['year']}).\"\n",
]
WANTED = {
    "Ada Lovelace": "Lovelace, A.: ",
    "Alan Mathison Turing": "Turing, A. M.: ",
    "Grace Hopper": "Hopper, G.: ",
    "Kurt Gödel": "Gödel, K.: ",
    "Emmy Noether": "Noether, E.: ",
}


def same_start(one, other):
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def as_wanted(entry, output):
    wanted = WANTED[entry["author"]] + entry["title"].capitalize() + f" ({entry['year']})."
    same = same_start(wanted, output) + same_start(wanted[::-1], output[::-1])
    return Feedback(min(1.0, same / max(len(wanted), len(output))), f"wanted {wanted!r}, got {output!r:.200}")


def test_a_format_is_met_step_by_step_by_a_proposer_that_reads_how_far_it_is(run):
    head = "def citation(entry: dict) -> str:\n"

    def final(skill):
        made = iter(STAGES)
        llm = proposer(
            "citation",
            lambda: head + next(made, STAGES[-1]),
            lambda rng: edited(citation.code.value, rng),
            skill,
            "format",
        )
        budget = Budget(steps=6, evaluations=6, invalid=20)
        return run(citation, ENTRIES, as_wanted, [citation.code], optimizer="optoprime", llm=llm, budget=budget)

    results = {skill: final(skill) for skill in (0.0, 0.5, 1.0)}
    assert results[0.0].score == results[0.0].baseline < results[0.5].score <= results[1.0].score == 1.0
    assert results[1.0].best["citation"] == head + STAGES[-1]
