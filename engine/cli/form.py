"""`engine rank serve`, `invite` and `revoke`: the form in which people rank."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.errors import EngineError

Store = Annotated[str, typer.Argument(help="The ranking store: a file, or a URL such as postgresql+psycopg://host/db.")]


def serve(
    store: Store,
    annotator: Annotated[list[str] | None, typer.Option(help="Print a link for them; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The port; by default 8765, or any where that is taken.")] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Let other machines come, with a link of theirs.")] = False,
    url: Annotated[str | None, typer.Option(help="How it is reached from outside: a proxy's https://...")] = None,
    lease: Annotated[float, typer.Option(min=1, help="Seconds that a question is kept for who has it.")] = 600.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second that one session may make.")] = 100.0,
    idle: Annotated[float | None, typer.Option(min=1, help="End after so many seconds that nobody needs it.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no links.")] = False,
) -> None:
    """Show the store's questions to people in the browser until Ctrl-C; answers are kept in the store."""
    from engine.ranking.members import Members
    from engine.ranking.store import RankingStore
    from engine.ranking.web.server import Address, serve

    with RankingStore(store) as opened:
        names = [] if quiet else annotator or ["annotator"]

        def started(reached: str) -> None:
            for name in names:
                typer.echo(f"{name}: {reached}/join/{Members(opened).invite(name)}")
            if not quiet:
                typer.echo("Each link signs its annotator in: give it to nobody else. Ctrl-C ends the form.")

        serve(opened, Address(host, port, url, remote), lease_s=lease, rate=rate, idle_s=idle, started=started)


def invite(store: Store, names: Annotated[list[str], typer.Argument(help="Who shall rank.")]) -> None:
    """Print a link for each annotator, while a form serves the store."""
    from engine.ranking.members import Members
    from engine.ranking.store import RankingStore
    from engine.ranking.web.server import running

    with RankingStore(store) as opened:
        reached = running(opened)
        if reached is None:
            raise EngineError("no form serves this store", place=store, next_step=f"engine rank serve {store}")
        for name in names:
            typer.echo(f"{name}: {reached}/join/{Members(opened).invite(name)}")


def revoke(store: Store, name: Annotated[str, typer.Argument(help="Whose links and sessions end.")]) -> None:
    """Make an annotator's links void and end their sessions; their answers stay."""
    from engine.ranking.members import Members
    from engine.ranking.store import RankingStore

    with RankingStore(store) as opened:
        Members(opened).revoke(name)
    typer.echo(f"{name} is signed out, and their links are void. A new one: engine rank invite {store} {name}")
