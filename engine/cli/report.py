"""`engine report RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, such as runs/optimize-20260101-120000.")],
) -> None:
    """Write RUN/report.html, one offline page with curves, candidates and samples, and print its path."""
    from engine.report import write_report

    typer.echo(write_report(run))
