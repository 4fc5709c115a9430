"""GEPA (arXiv 2507.19457), package gepa 0.1.4: `gepa.optimize` with its defaults and an adapter.

The whole candidate is one component, as text. Its validation set is the training set, as it does itself where none is
given. `max_metric_calls` is checked between its iterations, so that it may end a few runs over the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gepa
from gepa import EvaluationBatch

from peers.job import Job
from peers.task import Values

NAME = "candidate"


class Adapter:
    """The task as GEPA sees it."""

    propose_new_texts = None

    def __init__(self, job: Job) -> None:
        self._job = job

    def evaluate(self, batch: list[int], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        judged = self._job.evaluate(candidate[NAME], batch, is_strict=False)
        traces = [
            {"Inputs": repr(self._job.task.train[i]), "Feedback": f"score {score:g}. {text}"}
            for i, (score, text) in zip(batch, judged, strict=True)
        ]
        return EvaluationBatch(
            outputs=[text for _, text in judged],
            scores=[score for score, _ in judged],
            trajectories=traces if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {name: eval_batch.trajectories for name in components_to_update}


class Silent:
    def log(self, message: str) -> None: ...


def optimize(job: Job) -> Values:
    def ask(prompt: str | list[dict[str, Any]]) -> str:
        return job.ask([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)

    result = gepa.optimize(
        seed_candidate={NAME: job.task.to_text(job.task.start)},
        trainset=list(job.everything),
        adapter=Adapter(job),
        reflection_lm=ask,
        max_metric_calls=job.runs,
        stop_callbacks=[lambda state: job.used_calls >= job.calls],
        logger=Silent(),
        seed=job.seed,
    )
    return job.task.from_text(result.best_candidate[NAME])
