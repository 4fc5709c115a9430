"""`engine copy`: a ready-made agent or config as a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine import gallery
from engine.errors import InputError, UnknownName

__all__ = ["copy"]


def copy(
    name: Annotated[str | None, typer.Argument(help="For example judge, agents/judge.py or configs/grpo.yaml.")] = None,
    destination: Annotated[
        Path | None, typer.Argument(metavar="[DEST]", help="A file or folder; ./agents or ./configs by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Copy an agent or a config out for editing; without a name, list them."""
    if name is None:
        typer.echo("\n".join([*gallery.names("agents"), *gallery.names("configs")]))
        return
    source = _source(name)
    target = _target(source, destination)
    if target.exists() and target.samefile(source):
        raise InputError("that is the file itself", place=str(target), next_step="give another DEST")
    if target.exists() and not force:
        raise InputError("the file is there already", place=str(target), next_step="give another DEST, or --force")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", place=str(target), next_step="give another DEST") from None
    typer.echo(f"{target}")


def _source(name: str) -> Path:
    """The gallery's file of that name, of either kind. Raises UnknownName; InputError when both kinds have it."""
    reference, found = Path(name), []
    for kind in gallery.SUFFIXES:
        try:
            found.append(gallery.in_gallery(reference, kind))
        except UnknownName:
            continue
    if not found:
        raise UnknownName("agent or config", name, [*gallery.names("agents"), *gallery.names("configs")])
    if len(set(found)) > 1:
        both = ", ".join(f"{path.parent.name}/{path.name}" for path in found)
        raise InputError(f"'{name}' is both an agent and a config", allowed=both)
    return found[0]


def _target(source: Path, destination: Path | None) -> Path:
    """The file to write. By default the reference stays valid: agents/judge.py in the working folder."""
    if destination is None:
        return Path(source.parent.name, source.name)
    return destination / source.name if destination.is_dir() else destination
