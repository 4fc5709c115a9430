"""Improve a function by small edits: two populations, SEARCH/REPLACE blocks, every version run in the sandbox.

    python examples/evolve_code.py

A script stands in for the model, so that this runs without one: it knows edits, good and bad ones, and makes or undoes
one of those that fit the source that it is shown. Name a model in `llm=`, and it reads the source and its worst runs
instead.
"""

import itertools
import random

from engine import Budget, Feedback, optimize, trace
from engine.llm import ScriptedLLM


@trace.node(trainable=True)
def seconds(text: str) -> int:
    """The length of a time such as '1h 30m' or '2d', in seconds."""
    units = {"s": 1, "m": 60, "h": 360, "d": 86400}
    total = 0
    for part in text.split():
        number, unit = part[0], part[-1]
        total = int(number) * units[unit]
    return total


EXAMPLES = {
    "45s": 45, "5m": 300, "1h": 3600, "1h 30m": 5400, "2h 5m 10s": 7510, "1D": 86400, "1d 12h": 129600, "10 s": 10,
    "-1h": -3600, "1.5h": 5400,
}  # fmt: skip
EDITS = [
    ('"h": 360,', '"h": 3600,'),
    ('"d": 86400', '"d": 8640'),
    ("        number, unit = part[0], part[-1]", "        number, unit = part[:-1], part[-1]"),
    ("        number, unit = part[0], part[-1]", "        number, unit = part[1:], part[-1].lower()"),
    ("        total = ", "        total += "),
    ("* units[unit]", "* units[unit.lower()]"),
    ("int(number)", "float(number)"),
    ("    return total", "    return abs(total)"),
    ("    for part in text.split():", '    for part in text.replace(" s", "s").split():'),
    ("    for part in text.split():", "    for part in text:"),
]


def stand_in() -> ScriptedLLM:
    numbers = itertools.count()

    def answer(messages) -> str:
        source = messages[1]["content"].partition("#Source")[2].partition("#Limits")[0]
        fitting = [edit for pair in EDITS for edit in (pair, pair[::-1]) if source.count(edit[0]) == 1]
        search, replace = random.Random(next(numbers)).choice(fitting)
        return f"I try this.\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"

    return ScriptedLLM(answer)


def score(text: str, found: int) -> Feedback:
    return Feedback(float(found == EXAMPLES[text]), f"{text!r} is {EXAMPLES[text]} seconds, not {found}")


if __name__ == "__main__":
    result = optimize(
        seconds,
        list(EXAMPLES),
        feedback=score,
        optimizer="evolve",
        llm=stand_in(),
        accept="better",
        budget=Budget(evaluations=60, invalid=200),
    )
    best = next(e for e in result.history if e.candidate.values == result.best)
    right = [sum(score == 1 for score in evaluation.scores) for evaluation in (result.history[0], best)]
    print(f"right: {right[0]} -> {right[1]} of {len(EXAMPLES)} after {len(result.history) - 1} versions")
    print(f"tokens written by the model: {result.cost.completion_tokens}")
    print(result.diff())
