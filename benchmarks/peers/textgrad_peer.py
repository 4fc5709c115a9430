"""TextGrad (arXiv 2406.07496), package textgrad 0.1.8: TextualGradientDescent, as in its tutorial on prompts.

Batches of three examples; the judgement is a `StringBasedFunction`, whose backward pass asks the model for
criticism of each example; after a step the new text is kept if it is not worse on all training examples (the
tutorial's `run_validation_revert`). The whole candidate is one variable, numbers too: it knows texts alone.
Its prompts show the first and last ten words of a longer variable; that is its own `get_short_value`.
"""

from __future__ import annotations

import random
from typing import Any

import textgrad
from textgrad.autograd.string_based_ops import StringBasedFunction
from textgrad.engine import EngineLM

from peers.job import Job, Spent, mean
from peers.task import Values

BATCH = 3


class Engine(EngineLM):
    """The proposer, under TextGrad's interface."""

    model_string = "proposer"

    def __init__(self, job: Job) -> None:
        self._job = job

    def generate(self, prompt: Any, system_prompt: str | None = None, **sampling: Any) -> str:
        system = {"role": "system", "content": system_prompt or self.system_prompt}
        return self._job.ask([system, {"role": "user", "content": prompt}])

    def __call__(self, prompt: Any, **sampling: Any) -> str:
        return self.generate(prompt, **sampling)


def optimize(job: Job) -> Values:
    textgrad.set_backward_engine(Engine(job), override=True)
    variable = textgrad.Variable(
        job.task.to_text(job.task.start),
        requires_grad=True,
        role_description=f"what is to be improved. {job.task.objective}",
    )
    optimizer = textgrad.TGD(parameters=[variable], engine=Engine(job))
    rng = random.Random(job.seed)
    try:
        kept, score = variable.value, mean(job.evaluate(variable.value))
        while True:
            try:
                _step(job, variable, optimizer, rng.sample(job.everything, BATCH))
            except IndexError:  # it raises this where an answer lacks the tags
                continue
            new = mean(job.evaluate(variable.value))
            if new >= score:
                kept, score = variable.value, new
            else:
                variable.set_value(kept)
    except Spent:
        return job.best[1]


def _step(job: Job, variable: Any, optimizer: Any, batch: list[int]) -> None:
    optimizer.zero_grad()
    textgrad.sum([_loss(job, variable, example) for example in batch]).backward()
    optimizer.step()


def _loss(job: Job, variable: Any, example: int) -> Any:
    def judged(candidate: Any) -> str:
        score, text = job.evaluate(candidate.value, [example])[0]
        return f"input: {job.task.train[example]!r}; score {score:g}. {text}"

    return StringBasedFunction(judged, function_purpose=job.task.objective)({"candidate": variable})
