"""Trace's OptoPrime (arXiv 2406.16218), package trace-opt 0.1.3.8: the traced program, `backward`, `step`.

Batches of three examples, their outputs joined by a bundle, with the feedback of each; memory 0, its default. It
has no acceptance of its own: it goes on from whatever it suggested, and the best values seen on all training examples
are returned, which is more than it does. Code and numbers are parameters of its graph.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from opto.optimizers import OptoPrime
from opto.trace import bundle, node
from opto.trace.nodes import GRAPH

from peers.job import Job, Spent
from peers.task import Spec, Values

BATCH = 3


def optimize(job: Job) -> Values:
    GRAPH.clear()  # it holds every node of the process, and numbers names on
    program, params = _traced(job)
    optimizer = OptoPrime(list(params.values()), llm=_model(job), objective=None, memory_size=0)
    rng = random.Random(job.seed)
    try:
        while True:
            job.evaluate(_text(job, params))
            _step(job, program, params, optimizer, rng.sample(job.everything, BATCH))
    except Spent:
        return job.best[1]


@bundle()
def batch(*outputs: Any) -> Any:
    """All outputs, one after the other."""
    return "; ".join(map(str, outputs))


def _step(job: Job, program: Any, params: dict[str, Any], optimizer: Any, examples: list[int]) -> None:
    text = _text(job, params)
    told = [f"{n}. score {s:g}. {t}" for n, (s, t) in enumerate(job.evaluate(text, examples), 1)]
    outputs = [program(params, job.task.train[i]) for i in examples]
    optimizer.zero_feedback()
    optimizer.backward(batch(*outputs), "\n".join(told))
    optimizer.step()


def _traced(job: Job) -> tuple[Any, dict[str, Any]]:
    """The program and its parameters by name."""
    if job.task.specs[0].kind == "code":
        kept: list[Any] = []

        def wrap(function: Any) -> Any:
            kept.append(bundle(trainable=True)(function))
            return kept[0]

        program = job.task.program(wrap)
        return program, {job.task.specs[0].name: kept[0].parameter}
    params = {s.name: node(s.value, name=s.name, trainable=True, constraint=_limits(s)) for s in job.task.specs}
    return job.task.program(bundle()), params


def _limits(spec: Spec) -> str | None:
    if spec.choices:
        return "one of " + ", ".join(spec.choices)
    return None if spec.ge is None else f"between {spec.ge:g} and {spec.le:g}"


def _text(job: Job, params: dict[str, Any]) -> str:
    return job.task.to_text({name: param.data for name, param in params.items()})


def _model(job: Job) -> Any:
    """The proposer, under the interface of Trace's models."""

    def call(messages: Any, **sampling: Any) -> Any:
        message = SimpleNamespace(content=job.ask(messages, **sampling))
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])

    return call
