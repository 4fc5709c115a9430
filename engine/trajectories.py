"""Runs of chosen values with the graphs that they left, each paid for once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from engine.budget import Ledger
from engine.evaluation import Evaluator, Key
from engine.optimizers.base import Trajectory, values_key
from engine.params import Param
from engine.program import Outcome, Program, Run

MOST_KEPT = 512
"""Runs whose graphs are kept while a step's candidates are evaluated; with more, those that are shown are run again."""


class Trajectories:
    """What an optimizer is shown of runs.

    Graphs of a step's runs are kept where there are not too many of them, until it is known which candidate the next
    step may work from. Other graphs come from a run of their own, which counts as one, once for each pair of values and
    example. Which of the two it is follows from the history alone: after a resume a graph that was kept and is
    lost is made again, and costs nothing.
    """

    def __init__(self, program: Program, evaluator: Evaluator, ledger: Ledger, params: Sequence[Param]) -> None:
        self._program, self._evaluator, self._ledger, self._params = program, evaluator, ledger, params
        self._paid: set[str] = set()  # values/example of graphs that were run for
        self._free: set[str] = set()  # values whose graphs were kept from their evaluation
        self._candidates: set[str] = set()  # values of the present step
        self._kept: dict[Key, Run] = {}
        self._shown: dict[Key, Trajectory] = {}
        evaluator.keep = self._keep

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._paid, self._free = set(saved["traced"]), set(saved["kept"])

    def state(self) -> dict[str, Any]:
        """What `load` takes, plain JSON."""
        return {"traced": sorted(self._paid), "kept": sorted(self._free)}

    def take(self, values: Mapping[str, Any], runs: Mapping[int, Run]) -> None:
        """Keep runs, by example, that were made before the search: all of the values' or none."""
        key = values_key(values)
        self._kept |= {(key, index): run for index, run in runs.items()}
        self._free |= {key} if runs else set()

    def plain(self, index: int, outcome: Outcome) -> Trajectory:
        """A run without its graph."""
        media = self._program.media(index)
        return Trajectory(self._program.texts[index], outcome.output, outcome.feedback, media=media)

    @contextmanager
    def keeping(self, candidates: Iterable[Mapping[str, Any]], examples: int) -> Iterator[None]:
        """Inside, the graphs of these candidates' runs are kept, if that are not too many."""
        keys = {values_key(values) for values in candidates}
        self._candidates = keys if len(keys) * examples <= MOST_KEPT else set()
        try:
            yield
        finally:
            self._candidates = set()

    def settle(self, best: Mapping[str, Any] | None, others: Iterable[Mapping[str, Any]]) -> None:
        """Drop the graphs of all values but the step's best and those that may be worked from. Called inside of
        `keeping`."""
        wanted = {values_key(values) for values in others}
        if best is not None:
            key = values_key(best)
            wanted.add(key)
            self._free |= {key} & self._candidates
        self._kept = {place: run for place, run in self._kept.items() if place[0] in wanted}

    def graphs(self, values: Mapping[str, Any], examples: Sequence[int]) -> list[Trajectory]:
        """Runs of the values on the examples, with their graphs. Raises LimitReached."""
        key = values_key(values)
        self._shown = {place: run for place, run in self._shown.items() if place[0] == key}
        absent = [i for i in examples if (key, i) not in self._shown]
        for index in [i for i in absent if (key, i) in self._kept]:
            self._shown[key, index] = self._with_graph(index, self._kept[key, index])
            absent.remove(index)
        unpaid = set() if key in self._free else {f"{key}/{i}" for i in absent} - self._paid
        self._ledger.reserve(runs=len(unpaid))
        self._paid |= unpaid
        for index, trajectory in zip(absent, self._evaluator.map_runs(values, absent, self._with_graph), strict=True):
            self._shown[key, index] = trajectory
        return [self._shown[key, i] for i in examples]

    def _with_graph(self, index: int, run: Run) -> Trajectory:
        return replace(self.plain(index, run.outcome), subgraph=run.subgraph(self._params))

    def _keep(self, place: Key, run: Run) -> None:
        """Told of every run of the evaluator, from its threads."""
        if place[0] in self._candidates or place[0] in self._free:
            self._kept[place] = run
