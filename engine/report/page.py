"""A run folder as one offline page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from engine.jsonfiles import write_text
from engine.report.data import RunData, load
from engine.report.html import Html, as_text, details, pre, section, tag
from engine.report.optimize import optimize_sections
from engine.report.rl import rl_sections

_SECTIONS: dict[str, Callable[[RunData], list[Html]]] = {"optimize": optimize_sections, "rl": rl_sections}
_MOODS = {"done": "good", "failed": "bad"}

# the page needs nothing from outside and runs nothing: a text that escaped the escaping could do no harm
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def write_report(run_path: Path | str) -> Path:
    """Write report.html into a run folder and return its path.

    The file is complete in itself: no address, no script. An unfinished run gives a report of what
    it has so far. Raises DataError (no run folder, or a damaged file), InputError (unwritable).
    """
    run = load(run_path)
    path = run.path / "report.html"
    write_text(path, render(run))
    return path


def render(run: RunData) -> str:
    """The page of a run as HTML text."""
    sections = [part for part in _SECTIONS.get(run.kind, _plain_sections)(run) if part]
    sections.append(section("Configuration", details("config.yaml", pre(run.config))))
    status = str(run.status.get("status", "unknown"))
    head = tag(
        "header",
        tag("h1", run.name),
        tag("span", status, class_=f"badge {_MOODS.get(status, 'muted')}"),
        tag("span", f" {run.kind} run \u00b7 begun {run.created.replace('T', ' ')}", class_="muted"),
        _failure(run),
        _contents(sections),
    )
    style = Html(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))
    return (
        "<!doctype html>\n"
        + tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("title", f"{run.kind}: {run.name}"),
                tag("style", style),
            ),
            tag("body", tag("main", head, *sections)),
            lang="en",
        )
        + "\n"
    )


def _failure(run: RunData) -> Html:
    """What a run that failed said last."""
    summary = run.status.get("summary")
    error = summary.get("error") if isinstance(summary, dict) else None
    return tag("pre", as_text(error), class_="bad") if error else Html("")


def _contents(sections: list[Html]) -> Html:
    """Links to the page's parts."""
    found = (re.match(r'<section id="([\w-]+)"><h2>([^<]+)</h2>', part) for part in sections)
    return tag("nav", *(tag("a", Html(m[2]), href=f"#{m[1]}") for m in found if m))


def _plain_sections(run: RunData) -> list[Html]:
    """A run of a kind that has no page of its own: its summary."""
    return [section("Summary", pre(as_text(run.status.get("summary", {}))))]
