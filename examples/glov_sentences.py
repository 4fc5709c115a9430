"""GLOV on sentences: two class texts are improved by a small model that is steered by their hidden states.

    python examples/glov_sentences.py [amazon | movie | nyt | tweets]

Sentences: of four kinds, rated by people. Encoder: all-MiniLM-L6-v2. Proposer: SmolLM2-135M. After eight free texts
it writes half of each step's with an offset from the worst known texts to the best ones, while that is no worse.
"""

import argparse
from collections import Counter

from engine import Budget, gallery, optimize, trace

nearest = gallery.load("agents/classifier.py:nearest")
score = gallery.load("agents/classifier.py:score")
fitness = gallery.load("agents/classifier.py:fitness")
held_out = gallery.load("agents/classifier.py:held_out")
WRITERS = {
    "amazon": "customer writes about a product",
    "movie": "critic writes about a film",
    "nyt": "commentator writes in a newspaper",
    "tweets": "person tweets",
}


def run(of: str, **options):
    """The result of a search for the class texts of a set of sentences."""
    negative = trace.param("negative", name="negative", description=f"a sentence that an unhappy {WRITERS[of]}")
    positive = trace.param("positive", name="positive", description=f"a sentence that a happy {WRITERS[of]}")

    def classify(sentence):
        """Tell whether a sentence is positive or negative."""
        return nearest(sentence, negative, positive)

    return optimize(
        classify,
        fitness(of),
        feedback=score,
        optimizer={"kind": "glov", "begin": "scores", "candidates": 8, "explore": 8, "max_tokens": 24},
        validation=held_out(of),
        **options,
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sentences", nargs="?", choices=WRITERS, default="amazon")
    result = run(options.parse_args().sentences, llm="local:smollm2-135m", budget=Budget(evaluations=48))
    print(result)
    written = Counter(e.candidate.reason for e in result.history[1:])
    for reason, number in written.most_common():
        scores = [e.score for e in result.history[1:] if e.candidate.reason == reason]
        print(f"{number:3} {reason}: mean accuracy {sum(scores) / number:.3f}, best {max(scores):.3f}")
