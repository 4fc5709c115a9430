"""Three-digit sums with hints in three tiers: a task with a cliff for the model of agents/adder.py.

train() -> [{"prompt": "482+395=", "answer": "877", "knowledge_components_parts": [...], ...}, ...]

That model can add column by column, "work 2+5+0=07,8+9+0=17,4+3+1=08:877", and without a hint it would not
dream of it: "~900". Reward a completion whose last number is the sum.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

KNOWLEDGE = ["add the columns", "from right to left", "above 9 carry 1", "write down every column"]


def train() -> list[dict[str, Any]]:
    """400 problems."""
    return _rows()[:400]


def held_out() -> list[dict[str, Any]]:
    """100 others."""
    return _rows()[400:]


def last_number(completions: Sequence[str], answer: Sequence[str], **columns: Any) -> list[float]:
    """1 where the last number of the completion is the answer, else 0."""
    return [float(re.findall(r"\d+", text)[-1:] == [right]) for text, right in zip(completions, answer, strict=True)]


def question(a: int, b: int) -> str:
    return f"{a}+{b}="


def columns(a: int, b: int) -> list[str]:
    """From the right, digit + digit + carry = sum in two digits; a and b have equally many digits."""
    carry, steps = 0, []
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={total:02d}")
        carry = total // 10
    return steps


def work(a: int, b: int) -> str:
    """The sum column by column."""
    return f"work {','.join(columns(a, b))}:{a + b}"


def glance(a: int, b: int) -> str:
    """The sum rounded to hundreds."""
    return f"~{round(a + b, -2)}"


def hints(a: int, b: int) -> dict[str, list[str]]:
    """The parts of the three tiers, under the names of Scaf-GRPO's columns."""
    steps = columns(a, b)
    pairs = [f"{word} {step[0]} and {step[2]}" for word, step in zip(("first", "then", "last"), steps, strict=True)]
    return {
        "knowledge_components_parts": KNOWLEDGE,
        "planning_skeleton_parts": [*pairs, "with the carries"],
        "solution_breakdown_parts": [*steps, f"so {a + b}"],
    }


def pair(rng: random.Random, digits: int = 3) -> tuple[int, int]:
    """Two numbers of so many digits whose sum has as many and is no multiple of 100."""
    low = 10 ** (digits - 1)
    while True:
        a, b = rng.randint(low, 9 * low), rng.randint(low, 9 * low)
        if a + b < 10 * low and (a + b) % 100:
            return a, b


def _rows() -> list[dict[str, Any]]:
    """500 different problems, the same at every call."""
    rng = random.Random("long addition")
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < 500:
        pairs[pair(rng)] = None
    return [{"prompt": question(a, b), "answer": str(a + b)} | hints(a, b) for a, b in pairs]
