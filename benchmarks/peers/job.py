"""One run of a peer: the task, what may be spent, and what was."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peers.catalog import TASKS
from peers.task import Task, Values

Judged = list[tuple[float, str]]
"""Score and text of each example."""


class Spent(Exception):
    """The budget of runs or of calls does not pay for what was asked."""


@dataclass
class Job:
    """What a peer's file gets. `runs`: program runs on one example; `calls`: answers of the proposer."""

    task: Task
    seed: int
    url: str
    runs: int
    calls: int
    used_runs: int = 0
    used_calls: int = 0
    best: tuple[float, Values] = field(default_factory=lambda: (float("-inf"), {}))

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Job:
        return cls(TASKS[line["task"]](line["seed"]), line["seed"], line["url"], line["runs"], line["calls"])

    @property
    def everything(self) -> Sequence[int]:
        """The numbers of all training examples."""
        return range(len(self.task.train))

    def evaluate(self, text: str, examples: Sequence[int] | None = None, *, is_strict: bool = True) -> Judged:
        """Judgements of a candidate's text, by default on all training examples; of one that cannot be read, zeros.

        Keeps the best of those run on all. Raises Spent before the first run that the budget does not pay for;
        without `is_strict` it only counts.
        """
        examples = self.everything if examples is None else examples
        if is_strict and self.used_runs + len(examples) > self.runs:
            raise Spent("runs")
        self.used_runs += len(examples)
        try:
            values = self.task.from_text(text)
        except ValueError as error:
            return [(0.0, str(error))] * len(examples)
        judged = [self.task.run(values, self.task.train[i]) for i in examples]
        if len(examples) == len(self.task.train):
            self.best = max(self.best, (mean(judged), values), key=lambda pair: pair[0])
        return judged

    def ask(self, messages: Sequence[Mapping[str, str]], **sampling: Any) -> str:
        """One answer of the proposer. Raises Spent."""
        if self.used_calls + 1 > self.calls:
            raise Spent("calls")
        self.used_calls += 1
        body = json.dumps({"model": "proposer", "messages": list(messages), **sampling}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/chat/completions", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=600) as reply:
            return str(json.load(reply)["choices"][0]["message"]["content"])


def mean(judged: Judged) -> float:
    return sum(score for score, _ in judged) / len(judged)


def worst(judged: Judged, most: int = 3) -> list[str]:
    """What was said of the worst examples."""
    return [text for _, text in sorted(judged, key=lambda pair: pair[0])[:most] if text]
