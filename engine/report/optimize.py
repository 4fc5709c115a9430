"""The parts of the report of an `optimize` run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.report.chart import Row as Interval
from engine.report.chart import Series, interval_chart, line_chart
from engine.report.data import Row, RunData, duration, is_number, mean, points
from engine.report.graph import drawing
from engine.report.html import Html, as_text, clip, details, join, number, section, table, tag, tile
from engine.report.words import code_diff, patch, value_diff

_MOST_CANDIDATES = 300
_MOST_EXAMPLES = 12
_MOST_REFUSED = 50


def optimize_sections(run: RunData) -> list[Html]:
    """Headline, parameters, curve, candidates, graph, patch and cost, as far as the run has them."""
    return [
        _headline(run),
        section("Parameters", join(_param(param) for param in _records(run.result.get("params")))),
        section("Scores by step", tag("div", _curve(run), class_="wide")),
        section("Front", _front(run)),
        section("Candidates", _candidates(run)),
        section("Refused proposals", _refused(run.refused)),
        section("Graph", drawing(run.graphs[-1]) if run.graphs else ""),
        section("Patch", _patch(run)),
        section("Cost", _cost(run)),
    ]


def _headline(run: RunData) -> Html:
    """The numbers that say what came out, and a chart of them when there is more than one."""
    found = _record(run.result.get("validation"))
    before = found.get("baseline", run.result.get("baseline"))
    after = found.get("score", run.result.get("score"))
    tiles = []
    if is_number(before) and is_number(after):
        gain = after - before
        mood = "good" if gain > 0 else "bad" if gain < 0 else ""
        base = f"on {number(found.get('n'))} held-out examples" if found else "on the data of the search"
        tiles += [
            tile("before", number(before), _between(found, "baseline_") or base),
            tile("after", number(after), _between(found, ""), mood=mood),
            tile("change", f"{gain:+.3g}".replace("-", "\u2212"), _between(found, "difference_") or base, mood=mood),
        ]
    tiles += _without_luck(_record(run.result.get("corrected")))
    accepted = sum(bool(e.get("accepted")) for e in run.evaluations)
    tiles.append(tile("candidates", number(len(run.evaluations)), f"{accepted} accepted, {len(run.refused)} refused"))
    tiles.append(tile("time", duration(run.seconds), _ending(run)))
    rows = _intervals(run.result, before, after, found)
    title = f"Score on {number(found.get('n'))} held-out examples" if is_number(found.get("n")) else "Score"
    chart = interval_chart(rows, title=title) if len(rows) > 1 else ""
    return join([tag("div", *tiles, class_="tiles"), tag("div", chart, class_="wide") if chart else ""])


def _without_luck(found: Row) -> list[Html]:
    """The change on the data of the search, corrected for the choice of the best."""
    if not is_number(found.get("difference")):
        return []
    note = _between(found, "difference_") or f"choice among {number(found.get('candidates'))}"
    change = f"{found['difference']:+.3g}".replace("-", "\u2212")
    return [tile(f"change, corrected for choosing among {number(found.get('candidates'))}", change, note)]


def _between(found: Row, prefix: str) -> str:
    low, high = found.get(f"{prefix}low"), found.get(f"{prefix}high")
    return f"95 % interval {number(low, 3)} to {number(high, 3)}" if is_number(low) and is_number(high) else ""


def _ending(run: RunData) -> str:
    """'24 steps of optoprime, ended by: evaluations'."""
    by, ended = run.result.get("optimizer"), run.result.get("stopped_by")
    steps = sum(is_number(row.get("step")) and row["step"] > 0 for row in run.metrics)
    return f"{steps} steps" + (f" of {by}" if by else "") + (f", ended by: {ended}" if ended else "")


def _intervals(result: Row, before: Any, after: Any, found: Row) -> list[Interval]:
    """Before, the controls and after, as rows of the interval chart."""
    ends = _number(found, "baseline_low"), _number(found, "baseline_high")
    rows = [Interval("before", before, *ends)] if is_number(before) else []
    controls = result.get("controls")
    named = controls.items() if isinstance(controls, Mapping) else ((c.get("name", "?"), c) for c in _records(controls))
    for name, control in named:
        record = control if isinstance(control, Mapping) else {"score": control}
        if is_number(record.get("score")):
            rows.append(Interval(str(name), record["score"], _number(record, "low"), _number(record, "high")))
    if is_number(after):
        rows.append(Interval("after", after, _number(found, "low"), _number(found, "high"), is_strong=True))
    return rows


def _param(param: Row) -> Html:
    before, after = param.get("before"), param.get("after")
    origin = param.get("origin")
    # the file's name is enough here: a page is passed on, and the folders above it are private
    place = f"{Path(str(origin[0])).name}:{origin[-1]}" if isinstance(origin, list) and origin else ""
    note = " \u00b7 ".join(str(part) for part in (param.get("kind"), param.get("description"), place) if part)
    body = tag("p", "unchanged", class_="muted") if before == after else _changed(param.get("kind"), before, after)
    return tag("div", tag("h3", param.get("name", "?")), tag("div", note, class_="note"), body)


def _changed(kind: Any, before: Any, after: Any) -> Html:
    return code_diff(before, after) if kind == "code" else value_diff(before, after)


def _curve(run: RunData) -> Html:
    tried = [{"step": e.get("step"), "score": _score(e)} for e in run.evaluations if not e.get("accepted")]
    taken = [{"step": e.get("step"), "score": _score(e)} for e in run.evaluations if e.get("accepted")]
    best, current = points(run.metrics, "best_score"), points(run.metrics, "current_score")
    return line_chart(
        [
            Series("candidate", points(tried, "score"), is_marks=True, color=1),
            Series("best seen", best if current != best else (), color=4),
            Series("held", current, color=0),
            Series("accepted candidate", points(taken, "score"), is_marks=True, color=2),
        ],
        title="Score",
        width=420,
        height=230,
    )


def _front(run: RunData) -> Html:
    """With several objectives: the candidates that no other is better than in all of them."""
    found = _records(run.result.get("front"))
    names = list(dict.fromkeys(name for e in found for name in _record(e.get("objectives"))))
    rows = [
        (
            number(e.get("step")),
            *(number(_record(e.get("objectives")).get(name)) for name in names),
            join(tag("p", f"{name}: {clip(as_text(value), 200)}") for name, value in _record(e.get("values")).items()),
        )
        for e in found
    ]
    return table(("step", *names, "values"), rows, numeric=range(1 + len(names))) if rows else Html("")


def _candidates(run: RunData) -> Html:
    """One line a candidate; it opens to its texts compared with the start's, and its examples."""
    base = {str(p.get("name")): p.get("before") for p in _records(run.result.get("params"))}
    if not base and run.evaluations:
        base = dict(_record(run.evaluations[0].get("values")))
    kinds = {str(p.get("name")): p.get("kind") for p in _records(run.result.get("params"))}
    shown = _selected(run.evaluations)
    more = len(run.evaluations) - len(shown)
    return join(
        [
            *(_candidate(e, base, kinds) for e in shown),
            tag("p", f"{more} more are in journal.sqlite.", class_="muted") if more else "",
        ]
    )


def _selected(evaluations: list[Row]) -> list[Row]:
    """All if few; else those accepted and those of the highest score, in their order."""
    rank = sorted(
        range(len(evaluations)),
        key=lambda i: (
            not evaluations[i].get("accepted"),
            -(s if (s := _score(evaluations[i])) is not None else -1e300),
        ),
    )
    return [evaluations[i] for i in sorted(rank[:_MOST_CANDIDATES])]


def _candidate(evaluation: Row, base: Mapping[str, Any], kinds: Mapping[str, Any]) -> Html:
    accepted = bool(evaluation.get("accepted"))
    mark = (
        tag("span", "accepted", class_="badge good")
        if accepted
        else tag("span", evaluation.get("arm") or "", class_="muted")
    )
    reason = str(evaluation.get("reason") or "")
    summary = tag(
        "span",
        tag("span", f"step {number(evaluation.get('step'))}"),
        tag("b", number(_score(evaluation))),
        mark,
        tag("span", clip(reason.partition("\n")[0], 160), class_="why muted"),
        class_="row",
    )
    values = _record(evaluation.get("values"))
    changed = {name: value for name, value in values.items() if as_text(value) != as_text(base.get(name, value))}
    body = [tag("p", clip(reason))] if len(reason) > 160 or "\n" in reason else []
    for name, value in (changed or values).items():
        body += [tag("h3", name), _changed(kinds.get(name), base.get(name, value), value)]
    return details(summary, *body, _examples(evaluation))


def _examples(evaluation: Row) -> Html:
    """The judged examples of a candidate as a table."""
    columns = [_list(evaluation.get(key)) for key in ("examples", "scores", "outputs", "texts")]
    length = max((len(column) for column in columns), default=0)
    if not length:
        return Html("")
    padded = [[*column, *[None] * (length - len(column))] for column in columns]
    rows = [
        (number(example), number(score), clip(as_text(output or ""), 500), clip(as_text(text or ""), 500))
        for example, score, output, text in list(zip(*padded, strict=True))[:_MOST_EXAMPLES]
    ]
    note = f"the first {_MOST_EXAMPLES} of {length} examples" if length > _MOST_EXAMPLES else ""
    return join(
        [
            table(("example", "score", "output", "feedback"), rows, numeric=(1,)),
            tag("p", note, class_="note") if note else "",
        ]
    )


def _refused(refused: list[Row]) -> Html:
    """What was proposed and not run, with the reasons; the newest first."""
    if not refused:
        return Html("")
    rows = [
        (number(row.get("step")), clip(as_text(row.get("values", "")), 300), clip(as_text(row.get("reason", "")), 300))
        for row in refused[::-1][:_MOST_REFUSED]
    ]
    return details(f"{len(refused)} proposals were not run", table(("step", "proposal", "reason"), rows))


def _patch(run: RunData) -> Html:
    text = run.result.get("diff")
    if not isinstance(text, str) or not text.strip():
        return Html("")
    return join([tag("p", "Write these values into the source files with git apply.", class_="muted"), patch(text)])


def _cost(run: RunData) -> Html:
    cost = run.result.get("cost")
    if not isinstance(cost, Mapping):
        spent = next((row["spent"] for row in reversed(run.metrics) if isinstance(row.get("spent"), Mapping)), None)
        cost = spent if spent is not None else {}
    rows = [(str(name).replace("_", " "), number(value)) for name, value in _flat(cost)]
    return table(("what", "amount"), rows, numeric=(1,)) if rows else Html("")


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in record.items():
        pairs += _flat(value, f"{prefix}{name}: ") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs


def _score(evaluation: Row) -> float | None:
    value = evaluation.get("score")
    return float(value) if is_number(value) else mean(_list(evaluation.get("scores")))


def _number(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    return float(value) if is_number(value) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _records(value: Any) -> list[Row]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _record(value: Any) -> Row:
    return value if isinstance(value, dict) else {}
