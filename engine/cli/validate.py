"""`engine validate`: whether a config can be used, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine import gallery
from engine.cli.kinds import kind_of, load_kind
from engine.config import read_source

__all__ = ["validate"]


def validate(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of one that came with the engine.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as trainer.steps=20.")] = None,
    kind: Annotated[str | None, typer.Option(help="optimize or rl; found out by default.")] = None,
) -> None:
    """Check a config: every key, type, bound and name in it."""
    path = _path(config)
    changes = overrides or []
    chosen = kind or kind_of(read_source(path, changes))
    typer.echo(f"{path}: sound. {load_kind(chosen).check(path, changes)}")


def _path(config: Path) -> Path:
    """The file as given where it exists (so messages show that spelling), else from the gallery."""
    if config.exists():
        return config
    return gallery.find(config, kind="configs")
