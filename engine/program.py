"""A workflow and its feedback over data: one run at a time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import trace
from engine.errors import BudgetSpent, EnvironmentMissing, ReplayError, Stopped, TraceError
from engine.feedback import Feedback, as_feedback
from engine.graph.containers import plain
from engine.graph.errors import error_node
from engine.graph.subgraph import Subgraph
from engine.media import Media, media_in
from engine.params import Param, using

FATAL = (EnvironmentMissing, BudgetSpent, Stopped, ReplayError)
"""Errors that are no judgement of a candidate: they end the run, which can be resumed."""

MAX_TEXT = 4000


@dataclass(frozen=True)
class Outcome:
    """One run of the program on one example.

    `output`: the program's output as text; `failed`: the program or the feedback function raised, and the
    feedback's text is the error.
    """

    feedback: Feedback
    output: str
    seconds: float = 0.0
    failed: bool = False


@dataclass(frozen=True)
class Run:
    """An outcome with what was recorded. `output`: what the program gave, nodes in it; after an
    exception the node of the call that raised it, if that was recorded, else None."""

    outcome: Outcome
    graph: trace.Graph
    output: Any
    error: Exception | None = None

    def subgraph(self, params: Iterable[Param]) -> Subgraph | None:
        """What explains the output to these parameters together; None where it depends on none of them."""
        try:
            received = trace.backward(self.output, self.outcome.feedback)
        except TraceError:  # an output without nodes
            return None
        wanted = set(map(id, params))  # a parameter's == compares values
        parts = [part for param, part in received.items() if id(param) in wanted]
        return Subgraph.merge(parts) if parts else None


class Program:
    """workflow(example) judged by feedback(example, output).

    Each item of `data` is passed as the one positional argument, whatever its type; with data None
    the workflow is called without arguments and the feedback function with None as its example.
    Both may be coroutine functions. `data` is a sequence of examples; `texts` are they as text.
    """

    def __init__(
        self,
        workflow: Callable[..., Any],
        feedback: Callable[[Any, Any], Any],
        data: Sequence[Any] | None,
        wait: Callable[[Any], Any],
    ) -> None:
        self._workflow, self._feedback, self._wait = workflow, feedback, wait
        self._data: list[Any] | None = None if data is None else list(data)
        self.texts = [""] if data is None else [text_of(example) for example in data]

    def media(self, index: int) -> tuple[Media, ...]:
        """The pictures and sounds in an example."""
        return () if self._data is None else tuple(media_in(self._data[index]))

    def __len__(self) -> int:
        return len(self.texts)

    def run(self, values: Mapping[Param, Any], index: int) -> Run:
        """Run example `index` with these values, seen by this run only. Raises only FATAL errors."""
        example = None if self._data is None else self._data[index]
        arguments = () if self._data is None else (example,)
        started = time.perf_counter()
        with using(values), trace.record() as graph:
            try:
                output = self._settled(self._workflow(*arguments))
            except FATAL:
                raise
            except Exception as error:
                return _failure(error, "", graph, started)
            with trace.off():
                return self._judged(example, output, graph, started)

    def _judged(self, example: Any, output: Any, graph: trace.Graph, started: float) -> Run:
        value = plain(output)
        try:
            feedback = as_feedback(self._settled(self._feedback(example, value)))
        except FATAL:
            raise
        except Exception as error:
            return _failure(error, text_of(value), graph, started)
        outcome = Outcome(feedback, text_of(value), time.perf_counter() - started)
        return Run(outcome, graph, output)

    def _settled(self, value: Any) -> Any:
        return self._wait(value) if inspect.isawaitable(value) else value


def text_of(value: Any, limit: int = MAX_TEXT) -> str:
    """A value as text; a cut is marked with how much it leaves out."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]} ... [{len(text) - limit} more characters]"


def _failure(error: Exception, output: str, graph: trace.Graph, started: float) -> Run:
    """A run that ended in an exception; where a traced call raised it, that call is the output."""
    node = error_node(error)
    told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    feedback = Feedback(text=told) if node is None else node.feedback
    outcome = Outcome(feedback, output, time.perf_counter() - started, failed=True)
    return Run(outcome, graph, node, error)
