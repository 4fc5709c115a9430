"""Many runs at once: parallel, each pair of values and example run once, paid for before it runs."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from engine.budget import Ledger, LimitReached
from engine.optimizers.base import values_key
from engine.params import Param
from engine.program import Outcome, Program, Run

T = TypeVar("T")
Values = Mapping[str, Any]
Key = tuple[str, int]
"""What identifies a run: values_key of the values, and the example's number."""


class Evaluator:
    """Runs a program with candidates' values on examples, on `workers` threads.

    Every run sees its own values and a copy of the caller's context; the stored values of the
    parameters are not touched. `params`: the parameters whose values can be set, by name. `save` is told
    every new outcome, `keep` every run with its graph, from the thread that made it. `known`: outcomes
    that are paid for; `stored`: outcomes of an interrupted run, which are paid for again but not made again.
    With one worker everything runs in the calling thread.
    """

    def __init__(
        self,
        program: Program,
        *,
        workers: int = 4,
        save: Callable[[Key, Outcome], None] = lambda key, outcome: None,
    ) -> None:
        self.params: Sequence[Param] = ()
        self._program, self._save = program, save
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="engine-run") if workers > 1 else None
        self.keep: Callable[[Key, Run], None] = lambda key, run: None
        self.known: dict[Key, Outcome] = {}
        self.stored: dict[Key, Outcome] = {}

    def evaluate(
        self, candidates: Sequence[Values], examples: Sequence[int], ledger: Ledger | None = None
    ) -> list[list[Outcome]]:
        """The outcomes of each candidate on the examples, in order.

        With a ledger each candidate's new runs are taken from the budget `runs` before any of them
        starts; where that ends, the candidates before it are evaluated. Raises LimitReached if it ends at the
        first, and the first fatal error of a program.
        """
        keys = [values_key(values) for values in candidates]
        wanted: dict[Key, Values] = {}
        paid = 0
        for key, values in zip(keys, candidates, strict=True):
            new = [(key, i) for i in examples if (key, i) not in self.known and (key, i) not in wanted]
            try:
                if ledger is not None:
                    ledger.reserve(runs=len(new))
            except LimitReached:
                if paid == 0:
                    raise
                break
            wanted.update(dict.fromkeys(new, values))
            paid += 1
        self._run_all(wanted)
        return [[self.known[key, i] for i in examples] for key in keys[:paid]]

    def map_runs(self, values: Values, examples: Sequence[int], take: Callable[[int, Run], T]) -> list[T]:
        """take(example, run) of fresh runs of one candidate; the graphs are dropped after it."""
        found: dict[int, T] = {}

        def one(index: int) -> None:
            found[index] = take(index, self._program.run(self._overlay(values), index))

        self._each(one, list(examples))
        return [found[i] for i in examples]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _run_all(self, wanted: Mapping[Key, Values]) -> None:
        def one(item: tuple[Key, Values]) -> None:
            (key, index), values = item
            outcome = self.stored.pop((key, index), None)
            if outcome is None:
                run = self._program.run(self._overlay(values), index)
                self.keep((key, index), run)
                outcome = run.outcome
            self.known[key, index] = outcome
            self._save((key, index), outcome)

        self._each(one, list(wanted.items()))

    def _overlay(self, values: Values) -> dict[Param, Any]:
        return {param: values[param.name] for param in self.params if param.name in values}

    def _each(self, task: Callable[[Any], None], items: Sequence[Any]) -> None:
        """task(item) for every item, on the pool; after an error or an interrupt no further one is begun."""
        if self._pool is None or len(items) < 2:
            for item in items:
                contextvars.copy_context().run(task, item)
            return
        context = contextvars.copy_context()
        queue, stop = _Queue(items), threading.Event()

        def work() -> None:
            for item in queue:
                if stop.is_set():
                    return
                context.copy().run(task, item)

        futures = [self._pool.submit(work) for _ in range(min(self._workers, len(items)))]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except Exception:
            stop.set()
            wait(futures)
            raise
        except BaseException:
            # An interrupt does not wait for runs that may take minutes.
            stop.set()
            raise


class _Queue:
    """An iterator that several threads may share."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items, self._lock = iter(items), threading.Lock()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._items)
