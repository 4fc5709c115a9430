"""A search without runs and files: for tests that compare optimizers over many seeds."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean

from engine.comparison import win_rates
from engine.feedback import Feedback
from engine.optimizers import Candidate, Evaluation, State, make
from engine.ranking.ranking import Ranking


def start_state(params, history=None, *, seed=0, step=1, current=None, llm=None):
    initial = {p.name: p.value for p in params}
    history = [evaluation(initial, 0.0)] if history is None else history
    rng = random.Random(f"{seed}/{step}")
    return State(params, {**initial, **(current or {})}, [], history, llm, rng, step=step, initial=initial)


def evaluation(values, *scores, step=0, reason="", accepted=False, examples=None):
    """An evaluation; a score of None is a failed run."""
    examples = tuple(range(len(scores))) if examples is None else examples
    feedback = tuple(Feedback(text="it failed") if s is None else Feedback(s) for s in scores)
    failed = tuple(s is None for s in scores)
    return Evaluation(Candidate(values, reason), examples, feedback, ("",) * len(scores), accepted, step, failed)


def search(optimizer, params, score, evaluations, seed=0):
    """The best score of the held values, which are the best so far, after that many evaluations."""
    optimizer = make(optimizer)
    current = {p.name: p.value for p in params}
    history, step = [evaluation(current, score(current))], 0
    while (left := evaluations + 1 - len(history)) > 0:
        step += 1
        state = start_state(params, history, seed=seed, step=step, current=current)
        found = []
        for candidate in optimizer.propose(state, min(left, optimizer.candidates)):
            values = {**current, **{p.name: p.check(candidate.values.get(p.name, current[p.name])) for p in params}}
            found.append(evaluation(values, score(values), step=step, reason=candidate.reason))
        if not found:
            break
        best = max(found, key=lambda e: e.rank)
        if best.score > max(e.score for e in history):
            found[found.index(best)] = replace(best, accepted=True)
            current = best.candidate.values
        history += found
    return max(e.score for e in history)


def ranked_search(optimizer, params, loss, questions, *, n=8, noise=0.0, tie=0.0, seed=0):
    """The loss of the values held after so many questions.

    A question is a step: n candidates and the held values, ranked by loss plus normal noise in units of `tie`.
    """
    optimizer, rng = make(optimizer), random.Random(f"annotator {seed}")
    current = {p.name: p.value for p in params}
    history = [replace(evaluation(current, 0.0), feedback=(Feedback(text="not compared"),))]
    for step in range(1, questions + 1):
        state = start_state(params, history, seed=seed, step=step, current=current)
        proposed = optimizer.propose(state, n)
        sides = [current, *({**current, **candidate.values} for candidate in proposed)]
        seen = {i: -loss(values) + rng.gauss(0, noise) for i, values in enumerate(sides)}
        order = Ranking.by_score({i: round(s / tie) if tie else s for i, s in seen.items()})
        held, *rates = win_rates(order, list(seen))
        found = [evaluation(v, rate, step=step, reason=c.reason)
                 for v, rate, c in zip(sides[1:], rates, proposed, strict=True)]  # fmt: skip
        best = max(range(len(found)), key=lambda i: found[i].score)
        if found[best].score > held:
            found[best] = replace(found[best], accepted=True)
            current = found[best].candidate.values
        history += found
    return loss(current)


def interval(differences):
    """Mean of paired differences and its 95 % interval: 1.96 standard errors each way."""
    mean, n = fmean(differences), len(differences)
    error = (sum((d - mean) ** 2 for d in differences) / (n - 1) / n) ** 0.5
    return mean - 1.96 * error, mean + 1.96 * error
