"""The files of a run folder, read for a report; what an unfinished run has not written is empty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

from engine.journal import Journal
from engine.jsonfiles import read_json, read_lines
from engine.runs import run_kind

Row = dict[str, Any]


@dataclass(frozen=True)
class RunData:
    """What a run folder holds."""

    path: Path
    kind: str
    created: str = ""
    status: Row = field(default_factory=dict)
    config: str = ""
    metrics: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)
    result: Row = field(default_factory=dict)
    evaluations: list[Row] = field(default_factory=list)
    graphs: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def seconds(self) -> float | None:
        """From the run's creation to its last status."""
        try:
            ends = [datetime.strptime(t, "%Y-%m-%dT%H:%M:%S%z") for t in (self.created, str(self.status.get("time")))]
        except ValueError:
            return None
        return (ends[1] - ends[0]).total_seconds()


def load(path: Path | str) -> RunData:
    """The run in a folder. Raises DataError: no run folder, or a damaged file in it, and which."""
    path = Path(path)
    kind = run_kind(path)
    config = path / "config.yaml"
    records = _journal(path / "journal.sqlite")
    return RunData(
        path=path,
        kind=kind,
        created=str(read_json(path / "run.json").get("created", "")),
        status=_mapping(path / "status.json"),
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        metrics=read_lines(path / "metrics.jsonl"),
        samples=read_lines(path / "samples.jsonl"),
        result=_mapping(path / "result.json"),
        evaluations=records.get("evaluation", []),
        graphs=records.get("graph", []),
        refused=records.get("refused", []),
        checkpoints=sorted(folder.name for folder in path.glob("checkpoints/step-*")),
    )


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def points(rows: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of every row that has both as numbers."""
    return [
        (float(row["step"]), float(row[key])) for row in rows if is_number(row.get("step")) and is_number(row.get(key))
    ]


def mean(values: Iterable[Any]) -> float | None:
    """The mean of those values that are numbers; of a mapping, its own mean; None without any."""
    flat = (mean(value.values()) if isinstance(value, Mapping) else value for value in values)
    numbers = [value for value in flat if is_number(value)]
    return math.fsum(numbers) / len(numbers) if numbers else None


def duration(seconds: float | None) -> str:
    """'45 s', '12 min 5 s', '3 h 20 min'."""
    if seconds is None:
        return "\u2013"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _mapping(path: Path) -> Row:
    data = read_json(path) if path.is_file() else {}
    return data if isinstance(data, dict) else {}


def _rows(records: list[Any]) -> list[Row]:
    return [record for record in records if isinstance(record, dict)]


def _journal(path: Path) -> dict[str, list[Row]]:
    if not path.is_file():
        return {}
    with Journal(path, read_only=True) as journal:
        records = {kind: _rows(journal.rows(kind)) for kind in ("evaluation", "graph")}
        # a step's refused proposals are one list under the step
        steps = ((step, row) for step, rows in journal.items("refused") if isinstance(rows, list) for row in rows)
        return records | {"refused": [{"step": step, **row} for step, row in steps if isinstance(row, dict)]}
