"""OPRO (arXiv 2309.03409), its loop written down plainly, as there is no package of it.

The meta-prompt is the paper's for prompts (its figure 3): the 20 best texts with their scores in ascending order,
three exemplars, and the request for a text in square brackets; 8 answers a step at temperature 1, each
evaluated on all training examples; scores in percent.
"""

from __future__ import annotations

import random

from peers.job import Job, Spent, mean
from peers.task import Values

TOP, ANSWERS, EXEMPLARS = 20, 8, 3

PROMPT = """I have some texts along with their corresponding scores. The texts are arranged in ascending order \
based on their scores, where higher scores indicate better quality.

{pairs}

The following exemplars show what the text is applied to.

{exemplars}

Task: {objective}
Write your new text that is different from the old ones and has a score as high as possible. Write the text in square \
brackets."""


def optimize(job: Job) -> Values:
    rng = random.Random(job.seed)
    start = job.task.to_text(job.task.start)
    try:
        scores = {start: mean(job.evaluate(start))}
        while True:
            prompt = _prompt(job, scores, rng)
            for text in [job.ask([{"role": "user", "content": prompt}], temperature=1.0) for _ in range(ANSWERS)]:
                new = _bracketed(text)
                if new not in scores:
                    scores[new] = mean(job.evaluate(new))
    except Spent:
        return job.best[1]


def _prompt(job: Job, scores: dict[str, float], rng: random.Random) -> str:
    shown = sorted(scores.items(), key=lambda pair: pair[1])[-TOP:]
    return PROMPT.format(
        pairs="\n\n".join(f"text:\n{text}\nscore:\n{100 * score:.0f}" for text, score in shown),
        exemplars="\n\n".join(f"input:\n{job.task.train[i]!r}" for i in rng.sample(job.everything, EXEMPLARS)),
        objective=job.task.objective,
    )


def _bracketed(text: str) -> str:
    start, end = text.find("["), text.rfind("]")
    return text[start + 1 : end].strip() if 0 <= start < end else text.strip()
