"""GLOV on sentences: two class texts are improved by a small model that is steered by their hidden states.

    python examples/glov_sentences.py

Sentences: product reviews rated by people. Encoder: all-MiniLM-L6-v2. Proposer: SmolLM2-135M. After ten free texts
it writes half of each step's with an offset from the worst known texts to the best ones, while that is no worse.
"""

from collections import Counter

from engine import Budget, gallery, optimize

classify = gallery.load("agents/classifier.py:classify")
score = gallery.load("agents/classifier.py:score")
sentences = gallery.load("agents/classifier.py:fitness")()

if __name__ == "__main__":
    result = optimize(
        classify,
        sentences,
        feedback=score,
        optimizer={"kind": "glov", "begin": "scores", "crossover": 0.5},
        llm="local:smollm2-135m",
        validation=gallery.load("agents/classifier.py:held_out")(),
        budget=Budget(evaluations=32),
    )
    print(result)
    written = Counter(e.candidate.reason for e in result.history[1:])
    for reason, number in written.most_common():
        scores = [e.score for e in result.history[1:] if e.candidate.reason == reason]
        print(f"{number:3} {reason}: mean accuracy {sum(scores) / number:.3f}, best {max(scores):.3f}")
