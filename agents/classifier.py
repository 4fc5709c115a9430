"""Tell whether a sentence is positive or negative by the text of a class that it lies nearest to.

classify("It broke after a week.") -> "negative"

The sentences are rated by people, from the source distribution of vaderSentiment (MIT): |mean rating| >= 1.5, as many
positive as negative ones, half `fitness()`, half `held_out()`; of the SETS Amazon's reviews unless another is named.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Sequence
from typing import Any

from engine import Feedback, trace
from engine.llm.models import model_path

negative = trace.param(
    "negative", name="negative", description="a sentence that an unhappy customer writes about a product"
)
positive = trace.param(
    "positive", name="positive", description="a sentence that a happy customer writes about a product"
)
SETS = ("amazon", "movie", "nyt", "tweets")
"""Reviews of products and films, sentences of editorials, tweets."""
MOST = 300
"""Sentences of a class in a half."""
_lock = threading.Lock()
_known: dict[str, Any] = {}


@trace.node
def nearest(sentence: str, negative: str, positive: str) -> str:
    """The class whose text has the larger cosine with the sentence."""
    vectors = embed([sentence, negative, positive])
    return "positive" if float(vectors[0] @ vectors[2]) > float(vectors[0] @ vectors[1]) else "negative"


def classify(sentence: str) -> str:
    """Tell whether a sentence about a product is positive or negative."""
    return nearest(sentence, negative, positive)


def score(sentence: str, output: str) -> Feedback:
    """1 if people rated the sentence so, else 0."""
    rating = next(known[sentence] for known in map(ratings, SETS) if sentence in known)
    wanted = "positive" if rating > 0 else "negative"
    return Feedback(float(output == wanted), f"people call {sentence!r:.200} {wanted}; the output was {output}")


def fitness(of: str = "amazon") -> list[str]:
    """The half of a set that a search may see."""
    return _halves(of)[0]


def held_out(of: str = "amazon") -> list[str]:
    """The other half."""
    return _halves(of)[1]


@functools.cache
def ratings(of: str = "amazon") -> dict[str, float]:
    """Sentence -> mean rating by people, from -4 to 4; a sentence that occurs twice counts once."""
    file = next(model_path("vader-sentences").glob(f"{of}*_GroundTruth.txt"))
    rows = (line.split("\t", 2) for line in file.read_text(encoding="utf-8").split("\n") if line.strip())
    return {sentence.strip(): float(rating) for _, rating, sentence in rows}


@functools.cache
def _halves(of: str, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    classes = [[s for s, rating in ratings(of).items() if sign * rating >= 1.5] for sign in (-1, 1)]
    size = min(MOST, *(len(sentences) // 2 for sentences in classes))
    drawn = [rng.sample(sentences, 2 * size) for sentences in classes]
    halves = [[s for sentences in drawn for s in sentences[i * size : (i + 1) * size]] for i in (0, 1)]
    for half in halves:
        rng.shuffle(half)
    embed([*halves[0], *halves[1]])  # together and by length: five times faster than one by one
    return halves[0], halves[1]


@functools.cache
def _encoder() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    folder = model_path("minilm-l6-v2")
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def embed(texts: Sequence[str]) -> Any:
    """(N, 384) unit vectors: the mean of the token states. Each text is encoded once a process."""
    import torch

    with _lock, torch.inference_mode():
        new = sorted({text for text in texts if text not in _known}, key=len)
        for start in range(0, len(new), 64):
            tokenizer, model = _encoder()
            part = new[start : start + 64]
            batch = tokenizer(part, padding=True, truncation=True, max_length=256, return_tensors="pt")
            mask = batch["attention_mask"].unsqueeze(-1)
            sums = (model(**batch).last_hidden_state * mask).sum(1)
            _known.update(zip(part, torch.nn.functional.normalize(sums, dim=-1), strict=True))
        return torch.stack([_known[text] for text in texts])
