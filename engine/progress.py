"""What a running optimization says on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine.budget import Budget


class Terminal:
    """A bar of the evaluations and a line for each accepted candidate; nothing of both where stderr is no terminal.

    `say` is for what a user must know; it is printed in either case.
    """

    def __init__(self, budget: Budget, *, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        name, total = ("evaluations", budget.evaluations) if budget.evaluations else ("steps", budget.steps)
        self._counted = name
        self._task = self._progress.add_task("optimize", total=total, note="")

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, soft_wrap=True)

    def step(self, row: Mapping[str, Any], accepted: str = "") -> None:
        """Show a finished step; `accepted`: the line of the accepted candidate, if there is one."""
        self._progress.update(
            self._task,
            completed=row["spent"][self._counted],
            note=f"step {row['step']} score {number(row['current_score'])} invalid {row['spent']['invalid']:g}",
        )
        if accepted and self._console.is_terminal:
            self.say(accepted)


def number(value: float | None) -> str:
    """A score as people read it."""
    return "-" if value is None else f"{value:.4g}"
