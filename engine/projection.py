"""What a search will cost, told before it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from engine.budget import Budget
from engine.halving import rounds


def runs_of_a_step(candidates: int, batch: int, examples: int, halving: int | None) -> int:
    """The program runs of a step at most: all candidates as far as they go, and one of them on all examples."""
    if halving is None:
        return candidates * batch + examples - batch
    total, before = 0, 0
    for each in rounds(candidates, batch, halving):
        total += each.candidates * (each.examples - before)
        before = each.examples
    return total + examples - batch


def projection(
    budget: Budget,
    *,
    candidates: int,
    examples: int,
    batch: int,
    halving: int | None,
    seconds_a_run: float,
    workers: int,
    calls: int = 0,
    answer_tokens: int = 0,
    price: float | None = None,
    seconds_a_question: float = 0.0,
) -> str:
    """One line: steps, program runs and their time, calls and the length of their answers, people's time; all at most.

    seconds_a_run: as the starting values took; calls, answer_tokens: of the proposing model in a step; price: US
    dollars per million tokens of its answers, None where it is not known; seconds_a_question: of people.
    """
    steps, per_step = _steps(budget, candidates), runs_of_a_step(candidates, batch, examples, halving)
    parts = []
    if steps is None:
        parts.append("no limit of evaluations or steps")
    else:
        runs = min(steps * per_step, math.inf if budget.runs is None else budget.runs)
        seconds = runs * seconds_a_run / workers
        parts += [
            f"at most {_count(steps, 'step')} of {_count(candidates, 'candidate')}",
            f"{_count(int(runs), 'program run')} ({_time(seconds)})",
        ]
        if seconds_a_question:
            # Everybody sees an example's outputs in one question.
            parts.append(f"{_time(steps * batch * seconds_a_question)} of people's time")
        if calls:
            parts.append(_answers(steps * calls, steps * answer_tokens, price))
    limits = [f"{name} {limit:g}" for name, limit in asdict(budget).items() if limit is not None]
    return f"plan: {', '.join(parts)}; limits: {', '.join(limits)}"


def outlook(budget: Budget, candidates: int, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """One line after the first step: what all steps will cost if they are like it. Nothing where no end is planned.

    before, after: what was spent before the step and after it.
    """
    steps = _steps(budget, candidates)
    if steps is None or after["calls"] == before["calls"]:
        return ""
    units = {"calls": "{:,.0f} calls", "tokens": "{:,.0f} tokens", "usd": "${:.2f}", "seconds": ""}
    costs = {name: (after[name] - before[name]) * steps for name in units}
    costs["seconds"] += before["seconds"]
    told = [shape.format(costs[name]) for name, shape in units.items() if shape and costs[name]]
    return f"outlook: if all {steps} steps are like the first, {', '.join([*told, _time(costs['seconds'])])}"


def _answers(calls: int, tokens: int, price: float | None) -> str:
    """'8 calls with 4,800 tokens of answers ($0.05, and the prompts)'."""
    cost = "" if price is None else f" (${tokens * price / 1e6:.2g}, and the prompts)"
    return f"{_count(calls, 'call')} with {tokens:,} tokens of answers{cost}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def _steps(budget: Budget, candidates: int) -> int | None:
    """The steps that the plan allows; None where it has no end."""
    limits = [] if budget.steps is None else [budget.steps]
    if budget.evaluations is not None:
        limits.append(math.ceil(budget.evaluations / candidates))
    return min(limits, default=None)


def _time(seconds: float) -> str:
    """'about 3 min'."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {seconds:.0f} s" if seconds >= 1 else "under a second"
