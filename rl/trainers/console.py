"""What a run says on the terminal: its numbers before the start, a line a step, evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table

COLUMNS = (
    ("step", 6, "{:d}"),
    ("reward_mean", 8, "{:.3f}"),
    ("signal", 8, "{:.2f}"),
    ("grad_norm", 10, "{:.3f}"),
    ("entropy", 8, "{:.3f}"),
    ("kl", 8, "{:.4f}"),
    ("length_mean", 8, "{:.1f}"),
    ("seconds", 9, "{:.1f}"),
)
OFFLINE_COLUMNS = (
    ("step", 6, "{:d}"),
    ("loss", 10, "{:.3f}"),
    ("nll", 8, "{:.3f}"),
    ("forget_nll", 8, "{:.3f}"),
    ("forget_weight", 8, "{:.2f}"),
    ("retain_nll", 8, "{:.3f}"),
    ("retain_kl", 8, "{:.3f}"),
    ("grad_norm", 10, "{:.3f}"),
    ("seconds", 9, "{:.1f}"),
)
ZEROTH_ORDER_COLUMNS = (
    ("step", 6, "{:d}"),
    ("loss", 10, "{:.4f}"),
    ("reward_mean", 8, "{:.3f}"),
    ("slope", 10, "{:.3g}"),
    ("spread", 10, "{:.3g}"),
    ("points", 8, "{:d}"),
    ("seconds", 9, "{:.1f}"),
)
TITLES = {
    "reward_mean": "reward",
    "length_mean": "tokens",
    "grad_norm": "gradient",
    "forget_nll": "forget",
    "forget_weight": "weight",
    "retain_nll": "retain",
    "retain_kl": "KL",
}


class Console:
    """Prints rows of metrics as an aligned table with the time that is left."""

    def __init__(self, steps: int, *, terminal: Terminal | None = None, is_quiet: bool = False) -> None:
        self.terminal = terminal or Terminal(stderr=True, quiet=is_quiet, highlight=False)
        self.steps, self._seconds = steps, 0.0
        self._columns: list[tuple[str, int, str]] = []

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """A two-column table of facts."""
        table = Table(title=title, show_header=False, box=None, title_justify="left", padding=(0, 2, 0, 0))
        for name, value in facts.items():
            table.add_row(name, value)
        self.terminal.print(table)

    def row(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl."""
        if "eval" in row:
            self.terminal.print(evaluation_line(row))
            return
        if not self._columns:
            self._columns = columns_of(row)
            header = "".join(TITLES.get(name, name).rjust(width) for name, width, _ in self._columns)
            self.terminal.print(header, style="bold")
        cells = [_cell(row.get(name), width, form) for name, width, form in self._columns]
        self.terminal.print("".join(cells) + self._left(row))

    def warn(self, text: str) -> None:
        self.terminal.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.terminal.print(text, markup=False, soft_wrap=True)

    def _left(self, row: Mapping[str, Any]) -> str:
        """'  3m 10s left', by a running mean of the seconds a step."""
        seconds = float(row["seconds"])
        self._seconds = 0.8 * self._seconds + 0.2 * seconds if self._seconds else seconds
        left = int(self._seconds * (self.steps - int(row["step"])))
        return f"  {left // 60:d}m {left % 60:02d}s left" if left else ""


def columns_of(row: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """The columns of a run whose first row this is."""
    if "signal" in row:
        return list(COLUMNS)
    return [column for column in (ZEROTH_ORDER_COLUMNS if "points" in row else OFFLINE_COLUMNS) if column[0] in row]


def evaluation_line(row: Mapping[str, Any]) -> str:
    """'step 10, greedy accuracy: train 0.850 of 40, held_out 0.800 of 20', or each split's quantities."""
    if all({"accuracy"} <= part.keys() <= {"accuracy", "n", "failed", "loss"} for part in row["eval"].values()):
        splits = ", ".join(
            f"{name} {part['accuracy']:.3f} of {part['n']}" + (f" (loss {part['loss']:.4f})" if "loss" in part else "")
            for name, part in row["eval"].items()
        )
        return f"step {row['step']}, greedy accuracy: {splits}"
    lines = [
        f"  {name:15} " + ", ".join(f"{key} {value:.3g}" for key, value in part.items() if key != "n")
        for name, part in row["eval"].items()
    ]
    return "\n".join([f"step {row['step']}, what was measured:", *lines])


def _cell(value: Any, width: int, form: str) -> str:
    return ("-" if value is None else form.format(value)).rjust(width)
