"""`engine optimize CONFIG [k=v..]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from engine.result import Result

SPENT = ("calls", "tokens", "usd", "seconds", "human_minutes", "invalid")
"""Limits whose end is not the plan: the run could have gone on."""


def optimize(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of one that came with the engine.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as budget.evaluations=32.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run's folder, new or of an unfinished run; runs/optimize-DATE-TIME.")
    ] = None,
) -> None:
    """Make the parameters of a program better, as a config says.

    Exit codes: 0 done, 1 failed, 2 bad config or input, 3 environment, 4 calls, tokens, usd, seconds or
    invalid proposals spent (the best so far is kept), 75 stopped by a file `stop` in the run folder, 130 by
    Ctrl-C; after 3, 4, 75, 130 and 143 the same command with --run-dir goes on.
    """
    from engine import gallery
    from engine.controls import optimize_with_controls
    from engine.schema import load

    path = config if config.exists() else gallery.find(config, kind="configs")
    experiment = load(path, overrides or [])
    result, controls = optimize_with_controls(
        experiment.workflow,
        experiment.controls,
        optimizer=experiment.optimizer,
        run_dir=run_dir,
        **experiment.arguments(),
    )
    _print(result, controls)
    typer.echo(f"run folder: {result.run_dir}")
    typer.echo(f"report:     {result.run_dir / 'report.html'}")
    if code := exit_code(result):
        raise typer.Exit(code)


def exit_code(result: Result) -> int:
    """The exit code that says how a search ended."""
    if result.status == "stopped":
        return {"interrupt": 130, "SIGTERM": 143}.get(result.stopped_by, 75)
    return 4 if result.stopped_by in SPENT else 0


def _print(result: Result, controls: dict[str, Result]) -> None:
    from engine.progress import number

    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    held_out = result.validation is not None
    for title in ("", "score", *(["held out (95 %)"] if held_out else []), "evaluations", "calls"):
        table.add_column(title, justify="left" if not title else "right")
    before = [] if result.validation is None else [_interval(result.validation.baseline)]
    table.add_row("before", number(result.baseline), *before, "", "")
    for name, each in {result.optimizer: result, **controls}.items():
        held = [] if not held_out else [_interval(each.validation.best) if each.validation else "-"]
        table.add_row(name, number(each.score), *held, str(each.cost.evaluations), str(each.cost.calls))
    console = Console()
    console.print(table)
    for param in result.params:
        console.print(f"{param.name}: {param.before!r} -> {param.after!r}", markup=False, soft_wrap=True)
    if result.corrected is not None:
        typer.echo(str(result.corrected))
    typer.echo(f"ended by: {result.stopped_by}")


def _interval(interval: object) -> str:
    """'.781 [.745, .814]'."""
    score, low, high = (getattr(interval, name) for name in ("score", "low", "high"))
    return f"{score:.3g} [{low:.3g}, {high:.3g}]"
