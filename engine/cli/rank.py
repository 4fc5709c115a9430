"""`engine rank`: people's rankings."""

from __future__ import annotations

import typer

from engine.cli.form import invite, revoke, serve
from engine.cli.votes import export, stats

app = typer.Typer(name="rank", help="People's rankings: the form, statistics, exports.", no_args_is_help=True)
for command in (serve, invite, revoke, stats, export):
    app.command()(command)
