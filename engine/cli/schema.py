"""`engine schema`: the JSON schema of a kind of config file."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from engine.cli.kinds import kinds, load_kind

__all__ = ["schema"]


def schema(
    kind: Annotated[str | None, typer.Argument(help="optimize or rl; all of them by default.")] = None,
) -> None:
    """Print the JSON schema of config files, for an editor or a program."""
    schemas = load_kind(kind).schema() if kind else {name: load_kind(name).schema() for name in kinds()}
    typer.echo(json.dumps(schemas, indent=2))
