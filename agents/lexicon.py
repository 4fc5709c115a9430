"""Tell whether a word is positive or negative by what a language model would write next.

sentiment("delightful") -> "positive"

The words are the VADER lexicon's (MIT) on which people agree: |mean rating| >= 1.5, standard deviation
<= 1.2, letters only. How well a prompt works here depends little on what it means: judge a search on this
task by its placebo control only.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Sequence
from typing import Any

from engine import Feedback, trace
from engine.errors import InputError
from engine.llm import LLM, LocalLLM
from engine.llm.models import model_path

lexicon_prompt = trace.param(
    "Is the word positive or negative?",
    name="lexicon_prompt",
    description="a question that asks whether a word is positive or negative",
)
default_llm = functools.cache(LocalLLM)
_lock = threading.Lock()
_company: dict[str, tuple[str, ...]] = {}


@trace.node
def leaning(prompt: str, word: str, llm: Any) -> float:
    """log p(" positive") - log p(" negative") after the prompt and the word."""
    if not hasattr(llm, "scores"):
        raise InputError(f"{llm.name} gives no log-probabilities", allowed="a model in this process: LocalLLM")
    with _lock:  # the other threads want the same forward
        return _leanings(prompt, _company.get(word, (word,)), llm)[word]


@functools.lru_cache(maxsize=64)
def _leanings(prompt: str, words: Sequence[str], llm: Any) -> dict[str, float]:
    """Of all words that were drawn together, in one go: five times faster than one by one."""
    texts = [f"{prompt}\nInput: {word}\nOutput:" for word in words]
    likely = llm.scores([*texts, *texts], [*(" positive" for _ in words), *(" negative" for _ in words)])
    return {word: likely[i] - likely[len(words) + i] for i, word in enumerate(words)}


@trace.node
def named(leaning: float) -> str:
    """The class of a leaning."""
    return "positive" if leaning > 0 else "negative"


def sentiment(word: str, llm: LLM | None = None) -> str:
    """ "positive" or "negative"."""
    return named(leaning(lexicon_prompt, word, llm or default_llm()))


def score(word: str, output: str) -> Feedback:
    """1 if people rated the word so, else 0."""
    wanted = "positive" if ratings()[word] > 0 else "negative"
    return Feedback(float(output == wanted), f"people call '{word}' {wanted}; the output was {output}")


def fitness(size: int = 100) -> list[str]:
    """Words that a search may see, as many positive as negative ones."""
    return _drawn(0, size)


def held_out(size: int = 400) -> list[str]:
    """Other words."""
    return _drawn(1, size)


@functools.cache
def ratings() -> dict[str, float]:
    """Word -> mean rating by people, from -4 to 4."""
    text = (model_path("vader-sentences") / "vader_lexicon.txt").read_text(encoding="utf-8")
    rows = [line.split("\t")[:3] for line in text.split("\n") if line.strip()]
    return {
        word: float(mean)
        for word, mean, deviation in rows
        if word.isascii() and word.isalpha() and abs(float(mean)) >= 1.5 and float(deviation) <= 1.2
    }


def _drawn(half: int, size: int) -> list[str]:
    """`size` words of one half of each class, in an order that is always the same."""
    rng = random.Random(0)
    classes = [sorted(word for word, rating in ratings().items() if sign * rating > 0) for sign in (-1, 1)]
    for words in classes:
        rng.shuffle(words)
    drawn = [word for words in classes for word in words[half::2][: size // 2]]
    rng.shuffle(drawn)
    _company.update(dict.fromkeys(drawn, tuple(drawn)))
    return drawn
