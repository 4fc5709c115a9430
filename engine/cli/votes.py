"""`engine rank stats` and `engine rank export`: what is made of the votes of a ranking store."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.ranking.vote import Vote

Store = Annotated[str, typer.Argument(help="The store's file, such as votes.sqlite, or its database URL.")]


class Format(StrEnum):
    """trl: preference pairs. csv: a table for spreadsheets. jsonl: rankings that can be replayed."""

    trl = "trl"
    csv = "csv"
    jsonl = "jsonl"


def stats(store: Store, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say how annotators agree, how steady and right they are, and which candidates are strongest."""
    from engine.jsonfiles import json_text
    from engine.ranking.stats import summary

    found = summary(stored_votes(store))
    if as_json:
        typer.echo(json_text(found, indent=2))
        return
    from rich.console import Console

    from engine.cli.votes_tables import tables

    console = Console(highlight=False)
    for table in tables(found):
        console.print(table)
        console.print()


def export(
    store: Store,
    form: Annotated[Format, typer.Option("--format", help="trl: pairs; csv: a table; jsonl: rankings.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; the terminal by default.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="trl: messages instead of texts.")] = False,
    margin: Annotated[bool, typer.Option("--margin", help="trl: a column for RewardTrainer's margin.")] = False,
    best_worst: Annotated[bool, typer.Option("--best-worst", help="trl: only the best against the worst.")] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="jsonl: one row a question, all annotators together.")
    ] = False,
) -> None:
    """Write the votes for other programs."""
    from engine.jsonfiles import write_text
    from engine.ranking import export as made

    votes = stored_votes(store)
    if form is Format.trl:
        pairs = made.trl_rows(votes, is_chat=chat, has_margin=margin, best_worst=best_worst)
        text = made.lines([row for rows in pairs.values() for row in rows])
        _say_none([question for question, rows in pairs.items() if not rows])
    elif form is Format.jsonl:
        text = made.lines(made.merged_rows(votes) if merged else made.vote_rows(votes))
    else:
        text = made.csv_text(votes)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


def stored_votes(store: str) -> Sequence[Vote]:
    """The votes of a store. Raises DataError where there is no file."""
    from engine.errors import DataError
    from engine.ranking.store import RankingStore

    if ("://" not in store or store.startswith("sqlite")) and not Path(store.removeprefix("sqlite:///")).is_file():
        raise DataError("there is no ranking store", place=store, next_step="give the file that the form wrote")
    with RankingStore(store) as opened:
        return opened.votes()


def _say_none(questions: Sequence[str]) -> None:
    if questions:
        reasons = "all bad, nobody could judge, ties alone, or pictures and sounds"
        typer.echo(f"{len(questions)} questions give no pair: {reasons}", err=True)
