"""A small real model improves the two texts that a zero-shot classifier compares sentences with.

    python examples/optimize_words.py

Sentences: product reviews rated by people. Encoder: all-MiniLM-L6-v2. Proposer: SmolLM2-135M.
"""

from engine import Budget, Feedback, gallery, optimize, trace

embed = gallery.load("agents/classifier.py:embed")
ratings = gallery.load("agents/classifier.py:ratings")()
sentences = gallery.load("agents/classifier.py:fitness")()

bad = trace.param("negative", description="a sentence that an unhappy customer writes about a product")
good = trace.param("positive", description="a sentence that a happy customer writes about a product")


@trace.node
def is_good(sentence: str, bad: str, good: str) -> bool:
    """Whether the sentence lies nearer to `good`."""
    vectors = embed([sentence, bad, good])
    return bool(vectors[0] @ vectors[2] > vectors[0] @ vectors[1])


def classify(sentence):
    return is_good(sentence, bad, good)


def score(sentence, output):
    return Feedback(float(output == (ratings[sentence] > 0)))


if __name__ == "__main__":
    result = optimize(
        classify,
        sentences,
        feedback=score,
        optimizer={"kind": "opro", "explore": 24, "crossover": 0.75},  # a small model: propose, then recombine
        llm="local:smollm2-135m",
        validation=0.5,
        budget=Budget(evaluations=32),
    )
    print(result)
    print(result.diff())
