"""What an optimization leaves in its run folder, and what a resumed one takes from it.

journal.sqlite holds the evaluations of every finished step, the single runs of the present one, and
the state after the last finished step; step rows and state are written in one transaction.
llm.sqlite holds every call of the proposing model, rankings.jsonl every answer of a ranker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.evaluation import Key
from engine.feedback import Feedback
from engine.journal import Journal
from engine.jsonfiles import write_json
from engine.optimizers.base import Candidate, Evaluation, values_key
from engine.params import Param
from engine.program import Outcome
from engine.runs import RunFolder

SLOW_SECONDS = 0.02
"""Single runs faster than this are not worth a record of their own: a resumed step makes them again."""

MAY_DIFFER = ("budget", "workers", "llm")
"""What a resumed run may change."""

Row = dict[str, Any]


class Record:
    """The folder of one optimization, open for writing."""

    def __init__(self, run_dir: Path | str | None, config: Mapping[str, Any]) -> None:
        self.folder = RunFolder.open(
            run_dir, kind="optimize", config=config, resume=run_dir is not None, may_differ=MAY_DIFFER
        )
        self.path = self.folder.path
        self.journal = Journal(self.path / "journal.sqlite")
        self.state: Row | None = self.journal.find("state", "last")
        # A run that was killed before its first state may have left metrics.
        self.folder.rewind(self.state["step"] if self.state is not None else -1)

    @property
    def llm_path(self) -> Path:
        return self.path / "llm.sqlite"

    @property
    def stop_file(self) -> Path:
        """A file whose existence asks the run to stop after the present step."""
        return self.path / "stop"

    def history(self) -> list[Evaluation]:
        """The evaluations of the finished steps, oldest first; the starting values' is the first."""
        last = self.state["step"] if self.state else -1
        rows = [row for row in self.journal.rows("evaluation") if row["step"] <= last]
        return [_evaluation(row) for row in sorted(rows, key=lambda row: (row["step"], row["number"]))]

    def outcomes(self) -> dict[Key, Outcome]:
        """All outcomes of the finished steps and of the validation."""
        known = {}
        for row in [*self.journal.rows("evaluation"), *self.journal.rows("validation")]:
            key = values_key(row["values"])
            runs = zip(row["examples"], row["feedback"], row["outputs"], row["failed"], strict=True)
            for index, feedback, output, failed in runs:
                known[key, index] = Outcome(Feedback(**feedback), output, failed=failed)
        return known

    def single_runs(self) -> dict[Key, Outcome]:
        """The outcomes of single runs of a step that did not finish."""
        return {
            (row["key"], row["example"]): Outcome(
                Feedback(**row["feedback"]), row["output"], row["seconds"], row["failed"]
            )
            for row in self.journal.rows("run")
        }

    def save_run(self, key: Key, outcome: Outcome) -> None:
        """Keep a single run that was slow enough to be worth it."""
        if outcome.seconds < SLOW_SECONDS:
            return
        row = {
            "key": key[0],
            "example": key[1],
            "feedback": outcome.feedback.to_json(),
            "output": outcome.output,
            "seconds": outcome.seconds,
            "failed": outcome.failed,
        }
        self.journal.put("run", f"{key[0]}/{key[1]}", row)

    def save_params(self, params: Sequence[Param], initial: Mapping[str, Any]) -> None:
        """Write what is optimized, or hold it against what is written. Raises ConfigError where it differs."""
        held = {(str(row["name"]), str(row["kind"])) for row in self.journal.rows("param")}
        here = {(p.name, str(p.kind)) for p in params}
        if held and held != here:
            raise ConfigError(
                f"the run in this folder has the parameters {_listed(held)}, the program has {_listed(here)}",
                place=str(self.path),
                next_step="resume with the program that the run began with, or choose another folder",
            )
        if not held:
            with self.journal.transaction():
                for p in params:
                    self.journal.put("param", p.name, {"name": p.name, "kind": p.kind, "before": initial[p.name]})

    def initial(self) -> dict[str, Any]:
        """The values that the run began with."""
        return {row["name"]: row["before"] for row in self.journal.rows("param")}

    def save_step(
        self, row: Mapping[str, Any], evaluations: Sequence[Evaluation], arm: str, state: Mapping[str, Any]
    ) -> None:
        """Write a finished step: its metrics, its evaluations and the state after it."""
        # Metrics first: rows beyond the state are dropped when the run is resumed.
        self.folder.log(row)
        with self.journal.transaction():
            for number, evaluation in enumerate(evaluations):
                record = {**_row(evaluation, arm), "number": number}
                self.journal.put("evaluation", f"{evaluation.step}/{number}", record)
            for key, _ in self.journal.items("run"):
                self.journal.drop("run", key)
            self.journal.put("state", "last", dict(state))

    def save_graph(self, graph: Mapping[str, Any]) -> None:
        """Keep the graph of one run of the starting values."""
        self.journal.put("graph", "start", dict(graph))

    def save_refused(self, step: int, refused: Sequence[Mapping[str, str]]) -> None:
        """Keep the proposals of a step that were not run, with the reasons."""
        self.journal.put("refused", step, list(refused))

    def save_answers(self, step: int, answers: Sequence[Mapping[str, Any]]) -> None:
        """Keep what a ranker said in a step: a sample for each example, with what was shown."""
        for answer in answers:
            self.folder.sample({"step": step, **answer})

    @property
    def rankings_path(self) -> Path:
        """The ranker's answers, which are never asked for again."""
        return self.path / "rankings.jsonl"

    def save_validation(self, name: str, evaluation: Evaluation) -> None:
        """Keep the closing runs on held-out examples."""
        self.journal.put("validation", name, _row(evaluation, name))

    def finish(self, status: str, result: Mapping[str, Any]) -> None:
        """Write result.json and the status, and close the files."""
        write_json(self.path / "result.json", dict(result))
        summary = {key: result[key] for key in ("score", "baseline", "stopped_by", "cost")}
        self.folder.finish(status, summary)

    def fail(self, error: BaseException) -> None:
        """Write that the run ended in an error; the finished steps stay, and can be resumed."""
        self.folder.finish("failed", {"error": f"{type(error).__name__}: {error}"})

    def close(self) -> None:
        self.journal.close()
        self.folder.close()


def _row(evaluation: Evaluation, arm: str) -> Row:
    return {
        "step": evaluation.step,
        "arm": arm,
        "values": dict(evaluation.candidate.values),
        "reason": evaluation.candidate.reason,
        "examples": list(evaluation.examples),
        "score": evaluation.score,
        "scores": list(evaluation.scores),
        "texts": [f.text for f in evaluation.feedback],
        "feedback": [f.to_json() for f in evaluation.feedback],
        "outputs": list(evaluation.outputs),
        "failed": list(evaluation.failed),
        "accepted": evaluation.accepted,
    }


def _evaluation(row: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        Candidate(row["values"], row["reason"]),
        tuple(row["examples"]),
        tuple(Feedback(**feedback) for feedback in row["feedback"]),
        tuple(row["outputs"]),
        row["accepted"],
        row["step"],
        tuple(row["failed"]),
    )


def _listed(params: set[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in sorted(params))
