"""What an optimization found, what it cost, and how sure it is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.acceptance import Interval
from engine.optimizers.base import Evaluation
from engine.params import Param
from engine.pareto import SCORE, front, objectives
from engine.progress import number
from engine.report import write_report
from engine.selection_bias import Corrected
from engine.source_diff import Change, SourceDiff, source_diff


@dataclass(frozen=True)
class Cost:
    """What a run spent; the closing validation's program runs are counted apart.

    usd is None where no price is known.
    """

    evaluations: int = 0
    steps: int = 0
    runs: int = 0
    invalid: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    seconds: float = 0.0
    human_minutes: float = 0.0
    validation_runs: int = 0


@dataclass(frozen=True)
class Validation:
    """Scores on examples that the search never used, with 95 % bootstrap intervals.

    `difference`: the mean paired difference best - baseline on the same examples.
    """

    baseline: Interval
    best: Interval
    difference: Interval

    def __str__(self) -> str:
        return f"held out: {self.baseline} -> {self.best}, difference {self.difference}"

    def to_json(self) -> dict[str, Any]:
        """{score, low, high, n, baseline, baseline_low, ..., difference, ...}."""
        flat: dict[str, Any] = {**asdict(self.best), "baseline": self.baseline.score}
        for name in ("baseline", "difference"):
            interval: Interval = getattr(self, name)
            flat |= {name: interval.score, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return flat


@dataclass(frozen=True)
class ParamRecord:
    """A parameter before and after; `origin`: the file and line that it was made in."""

    name: str
    kind: str
    description: str
    before: Any
    after: Any
    origin: tuple[str, int] | None = None


@dataclass(frozen=True)
class Result:
    """The result of `optimize`.

    `best`: the values found, already set on the workflow's parameters (found code goes on running in the sandbox until
    its parameter's `adopt()`, or until `diff()` is applied to the file); `score` and `baseline`: mean scores
    of the best and of the starting values on the data (None where feedback has no scores); of a ranker the win rate
    of the best against the starting values, asked when the search has ended (None where it was stopped), and 1/2, which
    the starting values have against themselves. `validation`: in the same terms;
    None without held-out examples, or where the run was stopped; `corrected`: `score`, and its gain over `baseline`, as
    they would be on other examples but for the luck of the choice (see engine.selection_bias); None where there are
    fewer than eight examples, or nothing was chosen by score; `history`: every evaluation, the
    starting values' first; `stopped_by`: the limit that ended the search ("evaluations", "invalid"...),
    "interrupt", "SIGTERM" or "stop file"; `status`: "done", or "stopped" if it can be resumed. `params`: what each
    parameter was and is; `parameters`: the parameters themselves.
    """

    best: Mapping[str, Any]
    score: float | None
    baseline: float | None
    validation: Validation | None
    history: Sequence[Evaluation] = field(repr=False)
    cost: Cost
    run_dir: Path
    params: Sequence[ParamRecord] = field(repr=False)
    optimizer: str = ""
    stopped_by: str = ""
    status: str = "done"
    parameters: Sequence[Param] = field(default=(), repr=False, compare=False)
    corrected: Corrected | None = None

    @property
    def front(self) -> list[Evaluation]:
        """With several objectives: the evaluations on all of the data, without a failed run, that no other dominates.

        Compared are the objectives' means over the examples; of equal ones the oldest stays. Empty where
        feedback has one score alone. `best` is chosen by the mean of all objectives.
        """
        whole = [e for e in self.history if {*e.examples} == {*self.history[0].examples} and not any(e.failed)]
        means = [objectives(e.feedback) for e in whole]
        named = {objective for mean in means for objective in mean} - {SCORE}
        return [whole[i] for i in front(means)] if named else []

    @property
    def unproven(self) -> Evaluation | None:
        """The evaluation on all of the data with the highest mean, where that is higher than `score`; else None.

        It was not accepted: with the default rule, because so few examples do not bear it out. `reset(result.unproven)`
        takes it all the same. It has no more failed runs than the best values. None where a ranker judged, whose win
        rates hold within a step.
        """
        start = self.history[0]
        whole = [e for e in self.history if e.examples == start.examples]
        held = next((e for e in whole if dict(e.candidate.values) == dict(self.best)), None)
        if start.score is None or held is None or held.score is None:
            return None
        as_sound = [e for e in whole if e.score is not None and e.rank[0] >= held.rank[0]]
        highest = max(as_sound, key=lambda e: e.score or 0.0)
        return highest if (highest.score or 0.0) > held.score else None

    def reset(self, to: Literal["before", "after"] | Evaluation) -> None:
        """Set the parameters to the values that the run began with, or ended with, or to those of an evaluation."""
        values = (
            dict(to.candidate.values) if isinstance(to, Evaluation) else {p.name: getattr(p, to) for p in self.params}
        )
        for param in self.parameters:
            value = values[param.name]
            if param.kind != "weights" and param.value != value:
                param.set(value, author="model")

    def report(self) -> Path:
        """Write report.html into the run folder anew, as `optimize` does at its end, and return its path."""
        return write_report(self.run_dir)

    def diff(self) -> SourceDiff:
        """The best values as a patch of the files that the parameters were written in, for `git apply`."""
        return source_diff(
            [
                Change(p.name, str(p.origin[0]), int(p.origin[1]), p.after, p.kind, p.before)
                for p in self.params
                if p.origin is not None and p.kind != "weights"
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """The contents of result.json."""
        higher = self.unproven
        return {
            "best": dict(self.best),
            "score": self.score,
            "baseline": self.baseline,
            "validation": None if self.validation is None else self.validation.to_json(),
            "corrected": None if self.corrected is None else self.corrected.to_json(),
            "unproven": None
            if higher is None
            else {"step": higher.step, "score": higher.score, "values": dict(higher.candidate.values)},
            "optimizer": self.optimizer,
            "status": self.status,
            "stopped_by": self.stopped_by,
            "cost": asdict(self.cost),
            "params": [asdict(p) for p in self.params],
            "diff": self.diff().text,
            "front": [
                {"step": e.step, "values": dict(e.candidate.values), "objectives": objectives(e.feedback)}
                for e in self.front
            ],
        }

    def __str__(self) -> str:
        lines = [f"score {number(self.baseline)} -> {number(self.score)} ({self.optimizer}, {self.stopped_by})"]
        lines += [f"  {p.name}: {p.before!r} -> {p.after!r}" for p in self.params if p.after != p.before]
        if self.corrected is not None:
            lines.append(f"  {self.corrected}")
        if self.validation is not None:
            lines.append(f"  {self.validation}")
        if (higher := self.unproven) is not None:
            lines.append(f"  not accepted: {number(higher.score)} in step {higher.step} (result.unproven)")
        if self.stopped_by == "invalid" and self.cost.invalid:
            lines.append(
                f"  {self.cost.invalid} proposals were not allowed or had been tried before, which is the limit"
                " (Budget(invalid=...)); the run folder's report shows them"
            )
        lines.append(f"  run folder: {self.run_dir}")
        return "\n".join(lines)


def write_page(result: Result) -> None:
    """Write a result's report.html, or warn: it can be written again, and must not take a long search with it."""
    try:
        result.report()
    except Exception as error:
        warnings.warn(f"no report.html: {error}; try `engine report {result.run_dir}`", stacklevel=2)
