"""Before the first step: the parameters are found, the starting values judged, the optimizer chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import optimizers, trajectories
from engine.budget import Ledger
from engine.discovery import check_params, in_graph, of_workflow, unique
from engine.errors import InputError
from engine.evaluation import Evaluator
from engine.optimizers.base import Candidate, Evaluation, Optimizer, values_key
from engine.params import Param
from engine.program import Program, Run
from engine.record import Record
from engine.search import as_evaluation
from engine.sieve import is_proposable
from engine.task import Task

PLAIN_KINDS = {"number", "integer", "choice", "flag"}


@dataclass(frozen=True)
class Start:
    """The parameters, the values that the search begins with, and all evaluations so far.

    `has_graph`: whether a recorded run connects an output with a parameter; `runs`: the starting values' runs by
    example, with their graphs, where they are few enough to be kept.
    """

    params: list[Param]
    initial: dict[str, Any]
    history: list[Evaluation]
    has_graph: bool
    runs: Mapping[int, Run] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a recorded run."""

    run: Run
    params: list[Param]


def begin(task: Task, program: Program, evaluator: Evaluator, ledger: Ledger, record: Record) -> Start:
    """Run the starting values on all examples, or take what an earlier run of the folder knows of them.

    Raises LimitReached (no budget for it), what `check_params` raises, and InputError where every run fails.
    """
    examples = range(1 if task.examples is None else len(task.examples))
    if record.state is not None:
        return _resumed(task, evaluator, record, examples)
    ledger.reserve(runs=len(examples))
    is_kept = len(examples) <= trajectories.MOST_KEPT

    def look(index: int, run: Run) -> _Seen:
        return _Seen(run if is_kept or index == 0 else _light(run), in_graph(run.graph))

    seen = evaluator.map_runs({}, examples, look)
    params = unique([*of_workflow(task.workflow), *(param for each in seen for param in each.params)])
    _check_runs([each.run for each in seen], task)
    check_params(params)
    initial = {param.name: param.value for param in params}
    key = values_key(initial)
    for index, each in zip(examples, seen, strict=True):
        evaluator.known[key, index] = each.run.outcome
    first = seen[0].run
    record.save_params(params, initial)
    record.save_graph(first.graph.to_json())
    outcomes = [each.run.outcome for each in seen]
    evaluation = as_evaluation(Candidate(initial, "the starting values"), examples, outcomes, 0)
    has_graph = first.subgraph([p for p in params if is_proposable(p)]) is not None
    runs = {index: each.run for index, each in enumerate(seen)} if is_kept else {}
    return Start(params, initial, [evaluation], has_graph, runs)


def choose_optimizer(
    start: Start, saved: Mapping[str, Any] | None = None, *, is_ranked: bool = False
) -> tuple[Optimizer, str]:
    """The optimizer that "auto" means for these parameters and this feedback, and why.

    saved: the state of an earlier run, which keeps its optimizer. is_ranked: a ranker compares the outputs.

    A ranker: `rank`; only numbers and choices: `numeric`; a graph or text feedback: `optoprime`; otherwise `opro`.
    """
    if saved is not None:
        return optimizers.make(saved["arm"]), f"{saved['arm']}: chosen when the run began"
    if is_ranked:
        return optimizers.make("rank"), "rank: a ranker compares the outputs"
    if {param.kind for param in start.params if is_proposable(param)} <= PLAIN_KINDS:
        return optimizers.make("numeric"), "numeric: all parameters are numbers or choices"
    if start.has_graph:
        return optimizers.make("optoprime"), "optoprime: the recorded graph connects outputs with parameters"
    if any(f.text for f in start.history[0].feedback):
        return optimizers.make("optoprime"), "optoprime: the feedback has texts"
    return optimizers.make("opro"), "opro: there is neither text feedback nor a graph to read"


def _resumed(task: Task, evaluator: Evaluator, record: Record, examples: Sequence[int]) -> Start:
    """The start as the journal holds it; examples are run again only until all parameters are found."""
    initial = record.initial()
    params = of_workflow(task.workflow)
    for index in examples:
        if initial.keys() <= {param.name for param in params}:
            break
        found = evaluator.map_runs({}, [index], lambda _, run: in_graph(run.graph))[0]
        params = unique([*params, *found])
    check_params(params)
    record.save_params(params, initial)
    return Start(params, initial, record.history(), has_graph=False)


def _light(run: Run) -> Run:
    """The run without its graph."""
    return Run(run.outcome, run.graph.__class__(), None, run.error)


def _check_runs(runs: Sequence[Run], task: Task) -> None:
    """Refuse a start of which every run fails, unless the optimizer can read the errors off the graph."""
    failed = [run for run in runs if run.outcome.failed]
    if len(failed) < len(runs):
        return
    reads = task.optimizer is None or "text" in task.optimizer.needs
    if reads and any(run.output is not None for run in failed):
        return
    raise InputError(
        f"every run of the starting values failed ({len(runs)} of {len(runs)}): {failed[0].outcome.feedback.text}",
        next_step="make the workflow and the feedback function run on at least one example",
    ) from failed[0].error
