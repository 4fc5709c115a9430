"""The summary of votes as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.ranking.stats import Summary

WIDTH = 60


def tables(summary: Summary) -> list[RenderableType]:
    """What `engine rank stats` prints of a `summary`. Names and texts are shown as plain text, on one line."""
    return [_overview(summary), _annotators(summary), _places(summary), _strongest(summary)]


def printable(text: str, width: int = WIDTH) -> Text:
    """The text on one line: what could move the cursor, change colours or turn the direction becomes a space."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * width]).split())
    return Text(line if len(line) <= width else f"{line[: width - 1]}…", no_wrap=True)


def _overview(summary: Summary) -> Table:
    agree, found = summary["agreement"], _table("", "")
    found.show_header = False
    for name in ("questions", "votes", "late", "cannot_judge", "all_bad"):
        found.add_row(name.replace("_", " "), str(summary[name]))
    found.add_row("seconds a vote, median", _number(summary["seconds"], 1))
    found.add_row("questions that two or more judged", str(agree["questions"]))
    found.add_row("Kendall's W", _number(agree["kendall_w"]))
    found.add_row("Spearman's rho, mean of pairs", _number(agree["spearman"]))
    found.add_row("Krippendorff's alpha, ordinal", _number(agree["alpha"]))
    return found


def _annotators(summary: Summary) -> RenderableType:
    found = _table("annotator", "votes", "late", "cannot", "seconds", "tau-b", "steady", "gold")
    for row in summary["annotators"]:
        found.add_row(
            printable(row["annotator"], 24),
            str(row["votes"]),
            str(row["late"]),
            str(row["cannot_judge"]),
            _number(row["seconds"], 1),
            _number(row["others"]),
            _of(row["steady"], row["repeats"]),
            _of(row["right"], row["gold"]),
        )
    legend = (
        "cannot: could not judge. tau-b: with the mean of the others. steady: the share of pairs ordered as before, of "
        "so many questions shown again. gold: the share of pairs ordered right, of so many gold questions."
    )
    return Group(found, Text(legend, style="dim"))


def _places(summary: Summary) -> RenderableType:
    bias = summary["positions"]
    found = _table("place shown", "votes", "ranked first", "by chance", "standing (0 best)")
    for row in bias["places"]:
        shares = (_number(row[name]) for name in ("first", "by_chance", "standing"))
        found.add_row(str(row["place"]), str(row["shown"]), *shares)
    p_value = "too few votes to test" if bias["p_value"] is None else f"p = {bias['p_value']:.3g}"
    return Group(found, Text(f"Winners lie evenly over the places: {p_value} ({bias['tested']} votes)."))


def _strongest(summary: Summary) -> RenderableType:
    found = _table("strongest candidates", "strength")
    for row in summary["strongest"]:
        found.add_row(printable(row["text"] or str(row["id"])), _number(row["strength"]))
    sizes: Sequence[int] = summary["groups"]
    if len(sizes) < 2:
        return found
    return Group(found, Text(f"Of the largest of {len(sizes)} groups ({sizes[0]} candidates) that comparisons join."))


def _table(*titles: str) -> Table:
    found = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for number, title in enumerate(titles):
        found.add_column(title, justify="right" if number else "left")
    return found


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _of(share: float | None, count: int) -> str:
    return "-" if share is None else f"{share:.2f} ({count})"
