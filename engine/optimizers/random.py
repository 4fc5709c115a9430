"""The control without a language model: random values of every parameter, no score ever read."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from engine.optimizers._edits import edited
from engine.optimizers.base import Candidate, Optimizer, State
from engine.params import Param

WORD = re.compile(r"\w+(?:['-]\w+)*")


class RandomSearch(Optimizer):
    """Draws every parameter anew, independently, without looking at any score or feedback.

    number, integer: uniform between ge and le; with an open side, normal around the starting value
    with standard deviation max(1, |value|), folded at the bound. choice, flag: uniform. json: the starting
    value with its leaves redrawn. code: the starting source after one to three random edits of
    an operator, a number or a call (see `_edits`). text: half of the draws are the starting text after one to three
    random edits of a word (replace, insert, delete, swap), half are fresh sequences of 1 to 2 L + 2
    words for a start of L words. Words come from the texts of the run itself: the starting values,
    names and descriptions of the parameters, and the step's examples.
    """

    needs = frozenset()
    needs_llm = False

    def propose(self, state: State, n: int) -> list[Candidate]:
        words = word_pool(state)
        return [
            Candidate({p.name: draw(p, state.initial[p.name], words, state.rng) for p in state.params}, "random draw")
            for _ in range(n)
        ]


def word_pool(state: State) -> list[str]:
    """The distinct words of the run's own texts, sorted."""
    texts = [str(state.initial[p.name]) for p in state.params if p.kind == "text"]
    texts += [f"{p.name} {p.description}" for p in state.params]
    texts += state.examples
    return sorted({word for text in texts for word in WORD.findall(text)})


def draw(param: Param, start: Any, words: Sequence[str], rng: random.Random) -> Any:
    """A random value of the parameter's kind."""
    if param.kind in ("number", "integer"):
        value = _number(param, float(start), rng)
        return round(value) if param.kind == "integer" else value
    if param.kind == "choice":
        return rng.choice(list(param.choices or ()))
    if param.kind == "flag":
        return rng.random() < 0.5
    if param.kind == "text":
        return _text(start, words, rng)
    if param.kind == "code":
        return edited(start, rng)
    return _leaves(start, words, rng)


def _number(param: Param, start: float, rng: random.Random) -> float:
    low, high = param.ge, param.le
    if low is not None and high is not None:
        return rng.uniform(low, high)
    value = rng.gauss(start, max(1.0, abs(start)))
    if low is not None:
        return float(low + abs(value - low))
    return float(high - abs(high - value)) if high is not None else value


def _text(start: str, words: Sequence[str], rng: random.Random) -> str:
    own = start.split()
    if not words or (own and rng.random() < 0.5):
        for _ in range(rng.randint(1, 3)):
            own = _edited(own, words or own, rng)
        return " ".join(own)
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, 2 * len(own) + 2)))


def _edited(own: list[str], words: Sequence[str], rng: random.Random) -> list[str]:
    """The words after one random edit; an edit never leaves nothing."""
    edit = rng.choice(("replace", "insert", "delete", "swap"))
    at = rng.randrange(len(own))
    if edit == "insert":
        return [*own[:at], rng.choice(words), *own[at:]]
    if edit == "delete" and len(own) > 1:
        return own[:at] + own[at + 1 :]
    if edit == "swap" and len(own) > 1:
        other = rng.randrange(len(own))
        own = list(own)
        own[at], own[other] = own[other], own[at]
        return own
    return [*own[:at], rng.choice(words), *own[at + 1 :]]


def _leaves(value: Any, words: Sequence[str], rng: random.Random) -> Any:
    """A JSON value of the same shape with every leaf redrawn."""
    if isinstance(value, dict):
        return {key: _leaves(item, words, rng) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_leaves(item, words, rng) for item in value]
    if isinstance(value, bool):
        return rng.random() < 0.5
    if isinstance(value, int):
        return round(rng.gauss(value, max(1.0, abs(value))))
    if isinstance(value, float):
        return rng.gauss(value, max(1.0, abs(value)))
    return _text(value, words, rng) if isinstance(value, str) and value else value


OPTIMIZER = RandomSearch
