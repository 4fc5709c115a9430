"""optimize(): makes the parameters of a workflow better on examples, within a budget."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.acceptance import Rule, bootstrap_interval
from engine.awaiting import Awaiter
from engine.budget import Budget, Ledger
from engine.comparison import Comparison, unjudged
from engine.copies import Copies
from engine.discovery import left_out
from engine.errors import InputError, Stopped
from engine.evaluation import Evaluator
from engine.llm import LLM, resolve
from engine.llm.cache import CachedLLM
from engine.metering import MeteredLLM
from engine.optimizers.base import Optimizer
from engine.params import Param
from engine.program import Program
from engine.progress import Terminal
from engine.projection import projection
from engine.ranked import RankedSearch
from engine.ranking import Ranker
from engine.record import Record
from engine.result import Cost, ParamRecord, Result, Validation, write_page
from engine.search import Callback, Ending, Parts, Search, interrupted
from engine.selection_bias import Corrected, corrected
from engine.sieve import is_proposable
from engine.signals import terminable
from engine.start import Start, begin, choose_optimizer
from engine.task import Judge, Task

__all__ = ["optimize", "optimize_async"]


def optimize(
    workflow: Callable[..., Any],
    data: Sequence[Any] | None = None,
    *,
    feedback: Judge,
    optimizer: str | Mapping[str, Any] | Optimizer = "auto",
    llm: str | LLM | None = None,
    validation: Sequence[Any] | float | None = None,
    budget: Budget | Mapping[str, Any] = Budget(),  # noqa: B008 - frozen
    batch_size: int | None = None,
    halving: int | None = None,
    allow_copies: bool = False,
    accept: str | Rule = "paired",
    workers: int = 4,
    run_dir: Path | str | None = None,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """The best values found for the workflow's parameters, already set on them.

    workflow: any function, or a Module with `forward` or `__call__`; sync or async. Each item of `data`
    is passed as its one positional argument, whatever its type; without data it is called
    without arguments, as one example. Its parameters are those of its Module and those that a
    recorded run of the starting values used.
    feedback(example, output): a number (higher is better), a sentence, a mapping of objectives (accepted by
    their mean; see `Result.front`), or Feedback; may be async. An exception of the program or of the feedback
    function is feedback too: the run counts as failed, and a candidate with more failed runs is never accepted. Or an
    engine.ranking.Ranker (people, a model, a program): it ranks the outputs of a step and of the current values, as
    text, on each example. A score is then a win rate among them; the result's is that of the best values against the
    starting ones, which have 1/2.
    optimizer: a name, {"kind": name, option: value}, an Optimizer, or "auto", which says what it chose and why.
    llm: the proposing model: an LLM, or a name as in `engine.llm.resolve`; its calls are kept in the run folder.
    validation: held-out examples, or the share of the data (0 < share < 1) to hold out; the starting values
    and the best are run on them once, at the end.
    batch_size: how many examples, drawn anew in each step, candidates are evaluated on; None: all. A candidate
    that is better on a batch is run on all the data before it may be accepted.
    halving: eta of successive halving over the batch: a step's candidates are run on a few of its examples, the best
    1/eta of them on eta times as many, and so on. None: each is run on the whole batch.
    allow_copies: whether a proposed value may repeat a training example word for word (eight words in a row, or the
    whole of a shorter text); by default that is an invalid proposal, unless the starting values have the words too.
    accept: "paired" (a mean paired difference > 0 that a sign-flip test bears out), "better" (mean difference
    > 0), or a rule (candidate's scores, current scores) -> Verdict. With the two named rules the result is
    never worse than the start on the data. Where feedback has no scores nothing can be compared: the
    newest valid proposal is taken.
    workers: threads that run the program. Each run has a copy of the caller's context and its candidate's values.
    run_dir: the run's folder, by default a new one in runs/; the folder of an unfinished run continues it.
    callbacks: called with a StepReport after each step; raising Stopped ends the search.

    Ctrl-C, SIGTERM and a file named `stop` in the run folder, end the search; the best so far is kept and returned.
    Raises InputError and its kin for bad input, EnvironmentMissing where a model cannot be reached (the
    run can be resumed), BudgetSpent where the budget does not pay for the starting values.
    """
    task = Task.of(
        workflow, data, feedback=feedback, optimizer=optimizer, llm=llm, validation=validation, budget=budget,
        batch_size=batch_size, halving=halving, allow_copies=allow_copies, accept=accept, workers=workers, seed=seed,
    )  # fmt: skip
    return _Job(task, run_dir, callbacks).run()


async def optimize_async(workflow: Callable[..., Any], data: Sequence[Any] | None = None, **options: Any) -> Result:
    """`optimize` beside a running event loop, with its options.

    Coroutines of the workflow and of the feedback function run on the caller's own loop. Cancelling it ends
    the search after the present step.
    """
    bound = inspect.signature(optimize).bind(workflow, data, **options)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    run_dir, callbacks = arguments.pop("run_dir"), arguments.pop("callbacks")
    job = _Job(Task.of(**arguments), run_dir, callbacks, asyncio.get_running_loop())
    try:
        return await asyncio.to_thread(job.run)
    except asyncio.CancelledError:
        job.stop.set()
        raise


def _priced(model: LLM, budget: Budget) -> LLM:
    """The model. Raises InputError where money is limited and nothing says what a call costs."""
    if budget.usd is not None and not model.tells_cost:
        raise InputError(
            f"budget.usd is {budget.usd:g}, and the price of {model.name} is not known",
            next_step="give it in US dollars per million tokens, as OpenAILLM(..., price=(PROMPT, ANSWER)) or, in a "
            "config, price: [PROMPT, ANSWER]; or limit budget.tokens",
        )
    return model


@dataclass(frozen=True)
class _Closing:
    """The mean scores of both ends, and what the held-out examples say; `runs`: the program runs that took."""

    baseline: float | None
    score: float | None
    validation: Validation | None = None
    runs: int = 0


class _Job:
    """One call of `optimize`: opens what it needs, runs the search, closes everything."""

    def __init__(
        self,
        task: Task,
        run_dir: Path | str | None,
        callbacks: Sequence[Callback],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.task, self.callbacks = task, tuple(callbacks)
        self.stop = threading.Event()
        needs_llm = task.optimizer is not None and task.optimizer.needs_llm
        self._model = _priced(resolve(task.llm), task.budget) if needs_llm else None
        self.awaiter = Awaiter(loop)
        self.ledger = Ledger(task.budget)
        self.record = Record(run_dir, task.config())
        everything = None if task.examples is None else [*task.examples, *task.held_out]
        ranker = task.feedback if isinstance(task.feedback, Ranker) else None
        feedback = unjudged if isinstance(task.feedback, Ranker) else task.feedback
        self.program = Program(task.workflow, feedback, everything, self.awaiter)
        self.comparison = None if ranker is None else Comparison(ranker, self.record.rankings_path, self.program.texts)
        self.evaluator = Evaluator(self.program, workers=task.workers, save=self.record.save_run)
        self.examples = range(1 if task.examples is None else len(task.examples))

    def run(self) -> Result:
        try:
            with terminable(), Terminal(self.task.budget) as terminal:
                result = self._result(*self._searched(terminal))
        except BaseException as error:
            self.record.fail(error)
            raise
        finally:
            self.evaluator.close()
            self.awaiter.close()
            self.record.close()
        write_page(result)
        return result

    def _searched(self, terminal: Terminal) -> tuple[Search, Ending]:
        """The search after its end, and what ended it."""
        saved = self.record.state
        if saved is not None:
            self.ledger.load(saved["spent"])
            self.evaluator.known.update(self.record.outcomes())
            self.evaluator.stored.update(self.record.single_runs())
        terminal.say(f"run folder: {self.record.path}")
        start = begin(self.task, self.program, self.evaluator, self.ledger, self.record)
        self.evaluator.params = start.params
        for reason in left_out([param for param in start.params if param.kind == "code"]):
            terminal.say(f"left out of what is optimized: {reason}")
        optimizer = self.task.optimizer or self._chosen(start, terminal)
        llm = self._llm(optimizer, [param for param in start.params if is_proposable(param)])
        search = self._search(self._parts(start, optimizer, llm, terminal), start)
        if saved is None:
            search.take(start.runs)
            start = replace(start, runs={})  # they are not held longer than the search needs them
            self.record.save_step(search.first_row(), start.history, "start", search.state())
            terminal.say(self._plan(start, optimizer))
        else:
            terminal.say(f"resuming {self.record.path} after step {saved['step']}")
            search.load(saved)
            if llm is not None and saved["usage"]:
                llm.load(saved["usage"], saved.get("rates"))
        try:
            return search, search.run()
        finally:
            if llm is not None:
                llm.close()

    def _plan(self, start: Start, optimizer: Optimizer) -> str:
        """What the search will cost, as far as the starting values' runs tell."""
        task, examples = self.task, len(self.examples)
        proposable = [param for param in start.params if is_proposable(param)]
        took = [outcome.seconds for outcome in self.evaluator.known.values()]
        price = None if self._model is None else self._model.price
        return projection(
            task.budget,
            candidates=optimizer.candidates,
            examples=examples,
            batch=min(task.batch_size or examples, examples),
            halving=task.halving,
            seconds_a_run=fmean(took),
            workers=min(task.workers, examples),
            calls=optimizer.calls(len(proposable)) if optimizer.asks_llm(proposable) else 0,
            answer_tokens=optimizer.answer_tokens(len(proposable)),
            price=None if price is None else price[1],
            seconds_a_question=0.0 if self.comparison is None else self.comparison.seconds_each,
        )

    def _search(self, parts: Parts, start: Start) -> Search:
        if self.comparison is None:
            return Search(parts, start.initial, start.history)
        return RankedSearch(parts, start.initial, start.history, self.comparison)

    def _chosen(self, start: Start, terminal: Terminal) -> Optimizer:
        """The optimizer of "auto"; a resumed run keeps the one it began with."""
        optimizer, reason = choose_optimizer(start, self.record.state, is_ranked=self.comparison is not None)
        terminal.say(f"optimizer: {reason}")
        return optimizer

    def _llm(self, optimizer: Optimizer, params: Sequence[Param]) -> MeteredLLM | None:
        if not optimizer.asks_llm(params):
            return None
        self._model = _priced(self._model or resolve(self.task.llm), self.task.budget)
        return MeteredLLM(CachedLLM(self._model, self.record.llm_path), self.ledger, seed=self.task.seed)

    def _parts(self, start: Start, optimizer: Optimizer, llm: MeteredLLM | None, terminal: Terminal) -> Parts:
        return Parts(
            program=self.program,
            params=start.params,
            optimizer=optimizer,
            evaluator=self.evaluator,
            ledger=self.ledger,
            record=self.record,
            terminal=terminal,
            llm=llm,
            rule=self.task.rule,
            examples=self.examples,
            batch_size=self.task.batch_size,
            halving=self.task.halving,
            copies=self._copies(start),
            seed=self.task.seed,
            objective=inspect.getdoc(self.task.workflow) or "",
            callbacks=self.callbacks,
            stop=self.stop,
        )

    def _copies(self, start: Start) -> Copies | None:
        """What finds training examples in proposals; the texts that the user wrote may stay."""
        if self.task.allow_copies or self.task.examples is None:
            return None
        own = [inspect.getdoc(self.task.workflow) or "", *(param.description for param in start.params)]
        return Copies(self.task.examples, [*own, *(str(value) for value in start.initial.values())])

    def _result(self, search: Search, ending: Ending) -> Result:
        closing, ending = self._closed(search, ending)
        result = Result(
            best=dict(search.current),
            score=closing.score,
            baseline=closing.baseline,
            validation=closing.validation,
            corrected=self._corrected(search),
            history=tuple(search.history),
            cost=self._cost(search, closing.runs),
            run_dir=self.record.path,
            params=tuple(
                ParamRecord(p.name, p.kind, p.description, search.initial[p.name], search.current[p.name], p.origin)
                for p in search.parts.params
            ),
            optimizer=search.parts.optimizer.name,
            stopped_by=ending.reason,
            status="stopped" if ending.is_stop else "done",
            parameters=tuple(search.parts.params),
        )
        self.record.finish(result.status, result.to_json())
        return result

    def _closed(self, search: Search, ending: Ending) -> tuple[_Closing, Ending]:
        """How both ends of the search compare; a stop while that is asked or run is the ending."""
        start, best = search.ends(is_asked=False)
        closing = _Closing(start.score, best.score)
        if ending.is_stop:
            return closing, ending
        try:
            start, best = search.ends()
            closing = _Closing(start.score, best.score)
            return replace(closing, **self._validated(search)), ending
        except Stopped as error:
            return closing, Ending(error.message, is_stop=True)
        except KeyboardInterrupt as error:
            return closing, interrupted(error)

    def _corrected(self, search: Search) -> Corrected | None:
        """The score on the data, corrected for having chosen the best; None where nothing was chosen by score."""
        if search.current == search.initial or self.comparison is not None:
            return None
        whole = [e.scores for e in search.history if len(e.examples) == len(self.examples)]
        rows = [[s for s in scores if s is not None] for scores in whole]
        scored = [row for row in rows if len(row) == len(self.examples)]
        if not scored or len(rows[0]) < len(self.examples):  # the first row is the starting values'
            return None
        return corrected(scored, seed=self.task.seed)

    def _validated(self, search: Search) -> dict[str, Any]:
        """`validation` on the held-out examples, and the `runs` of the program that it took."""
        if not self.task.held_out:
            return {}
        held_out = range(len(self.examples), len(self.program))
        self.evaluator.evaluate([search.initial, search.current], held_out)
        ends = search.ends(held_out)
        for name, evaluation in zip(("baseline", "best"), ends, strict=True):
            self.record.save_validation(name, evaluation)
        pairs = [(a, b) for a, b in zip(*(end.scores for end in ends), strict=True) if a is not None and b is not None]
        runs = len(held_out) * (1 if search.initial == search.current else 2)
        if not pairs:
            search.parts.terminal.say("no held-out example was scored for both ends: there is no validation")
            return {"runs": runs}
        before, after = zip(*pairs, strict=True)
        validation = Validation(
            baseline=bootstrap_interval(before),
            best=bootstrap_interval(after),
            difference=bootstrap_interval([b - a for a, b in pairs]),
        )
        return {"validation": validation, "runs": runs}

    def _cost(self, search: Search, validation_runs: int) -> Cost:
        spent = self.ledger.spent()
        usage = search.parts.llm.usage if search.parts.llm else None
        return Cost(
            evaluations=int(spent["evaluations"]),
            steps=int(spent["steps"]),
            runs=int(spent["runs"]),
            invalid=int(spent["invalid"]),
            calls=int(spent["calls"]),
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            usd=usage.cost_usd if usage else None,
            seconds=round(spent["seconds"], 3),
            human_minutes=round(spent["human_minutes"], 2),
            validation_runs=validation_runs,
        )
