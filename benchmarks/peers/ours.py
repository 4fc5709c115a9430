"""The engine's own optimizers on a task: `optimize` with its defaults."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import Budget, Feedback, optimize, trace
from engine.budget import LimitReached
from engine.errors import LLMUnavailable
from engine.llm import OpenAILLM
from engine.llm.base import LLM, Completion, Message
from engine.optimizers.base import Optimizer
from peers.endpoint import Endpoint
from peers.task import Spec, Task, Values


class Limited(LLM):
    """The endpoint's model, which ends the run when the endpoint has given all its answers."""

    def __init__(self, endpoint: Endpoint, run: str, url: str, calls: int) -> None:
        self._llm = OpenAILLM("proposer", url, max_retries=0, timeout_s=600)
        self._endpoint, self._run, self._calls = endpoint, run, calls
        self.name = self._llm.name

    @property
    def given(self) -> int:
        """Answers so far."""
        return self._endpoint.given[self._run]

    def complete(self, messages: list[Message], *, schema: Any = None, n: int = 1, **sampling: Any) -> Completion:
        left = self._calls - self.given
        if left < 1:
            raise LimitReached("calls", "the proposer's answers are spent")
        try:
            return self._llm.complete(messages, schema=schema, n=min(n, left), **sampling)
        except LLMUnavailable as error:
            if "spent" in str(error):  # a repair request was one too many
                raise LimitReached("calls", "the proposer's answers are spent") from None
            raise


def workflow_of(task: Task) -> Callable[[Any], Any]:
    """The task's program, traced, over parameters of its own."""
    if task.specs[0].kind == "code":
        program = task.program(trace.node(trainable=True))
        params: Values = {}
    else:
        program = task.program(trace.node)
        params = {spec.name: _param(spec) for spec in task.specs}

    def workflow(example: Any) -> Any:
        return program(params, example)

    workflow.__doc__ = task.objective
    return workflow


def run(task: Task, optimizer: str | Optimizer, llm: Limited, *, seed: int, runs: int, accept: str) -> dict[str, Any]:
    """Held-out score, values, and what was spent."""
    started = time.monotonic()

    def judged(example: Any, output: Any) -> Feedback:
        score, text = task.judge(example, output)
        return Feedback(score=score, text=text)

    with tempfile.TemporaryDirectory() as folder:
        result = optimize(
            workflow_of(task),
            list(task.train),
            feedback=judged,
            optimizer=optimizer,
            llm=llm,
            budget=Budget(evaluations=None, runs=runs),
            accept=accept,
            workers=1,
            seed=seed,
            run_dir=Path(folder) / "run",
        )
    values = dict(result.best)
    spent = {"runs": result.cost.runs, "calls": llm.given, "seconds": round(time.monotonic() - started, 2)}
    return {"score": task.true_score(values), "values": values, "stopped_by": result.stopped_by, **spent}


def _param(spec: Spec) -> Any:
    limits = {
        key: value for key in ("ge", "le", "choices") if (value := getattr(spec, key)) is not None and value != ()
    }
    return trace.param(spec.value, name=spec.name, **limits)
