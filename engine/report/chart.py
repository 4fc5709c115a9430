"""Charts as inline SVG: colours come from the page's style sheet, values from the data alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.report.html import Html, join, number, tag

Point = tuple[float, float]

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 24
_MOST_POINTS = 400
_MOST_MARKS = 60


@dataclass(frozen=True)
class Series:
    """A named line through points (x, y). is_marks: points alone, without a line."""

    name: str
    points: Sequence[Point] = field(default_factory=tuple)
    is_marks: bool = False
    color: int | None = None


@dataclass(frozen=True)
class Row:
    """One line of an interval chart: a value, and where known the interval around it."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    is_strong: bool = False


def line_chart(
    series: Sequence[Series], *, title: str, x_name: str = "step", width: int = 330, height: int = 180
) -> Html:
    """A figure of all series over one pair of axes; Html("") when there is no point."""
    shown = [s for s in series if s.points]
    if not shown:
        return Html("")
    shown = [
        Series(s.name, _thinned(s.points), s.is_marks, i if s.color is None else s.color) for i, s in enumerate(shown)
    ]
    x_axis = _Axis([x for s in shown for x, _ in s.points], _LEFT, width - _RIGHT, whole=True)
    y_axis = _Axis([y for s in shown for _, y in s.points], height - _BOTTOM, _TOP)
    drawing = tag(
        "svg",
        _grid(x_axis, y_axis, width, height),
        *(_line(s, x_axis, y_axis) for s in shown),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{title}: "
        + ", ".join(f"{s.name} from {s.points[0][1]:.4g} to {s.points[-1][1]:.4g}" for s in shown),
    )
    legend = join(
        tag(
            "span",
            tag("i", class_=f"c{(s.color or 0) % 6}"),
            s.name if len(shown) > 1 else "",
            " ",
            tag("b", number(s.points[-1][1])) if not s.is_marks else "",
        )
        for s in shown
    )
    return tag(
        "figure", tag("figcaption", tag("b", title), f" by {x_name}"), drawing, tag("div", legend, class_="legend")
    )


def interval_chart(rows: Sequence[Row], *, title: str, width: int = 420) -> Html:
    """Values as dots on one scale, with their intervals; Html("") without rows."""
    if not rows:
        return Html("")
    left, line_height, top = 120, 28, 8
    height = top + line_height * len(rows) + _BOTTOM
    ends = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    axis = _Axis(ends, left, width - 58)
    floor = height - _BOTTOM
    marks = []
    for value in axis.ticks:
        x = axis.at(value)
        marks.append(tag("line", x1=x, x2=x, y1=top, y2=floor, class_="grid"))
        marks.append(tag("text", number(value), x=x, y=height - 7, text_anchor="middle"))
    for index, row in enumerate(rows):
        y = top + line_height * (index + 0.5)
        shade = "strong" if row.is_strong else "weak"
        marks.append(tag("text", _clipped(row.name, 20), x=left - 10, y=y + 4, text_anchor="end", class_="name"))
        if row.low is not None and row.high is not None:
            marks.append(tag("line", x1=axis.at(row.low), x2=axis.at(row.high), y1=y, y2=y, class_=f"interval {shade}"))
        marks.append(tag("circle", cx=axis.at(row.value), cy=y, r=5, class_=shade))
        marks.append(tag("text", number(row.value), x=width - 50, y=y + 4, class_="name"))
    label = f"{title}: " + ", ".join(f"{row.name} {row.value:.4g}" for row in rows)
    return tag(
        "figure",
        tag("figcaption", tag("b", title)),
        tag("svg", *marks, viewBox=f"0 0 {width} {height}", role="img", aria_label=label),
    )


class _Axis:
    """Values to pixels, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, whole: bool = False) -> None:
        low, high = min(values), max(values)
        is_constant = high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-30)
        if is_constant:
            room = 0.5 if whole or abs(low) < 1e-30 else abs(low) * 0.1
            low, high = low - room, high + room
        step = _round_step((high - low) / 4)
        if whole:
            step = max(1.0, math.ceil(step))
        else:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        self._low, self._scale, self._start = low, (end - start) / (high - low), start
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        self.ticks = [values[0]] if is_constant else [n * step for n in range(first, last + 1)]

    def at(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._scale, 1)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _grid(x_axis: _Axis, y_axis: _Axis, width: int, height: int) -> Html:
    marks = []
    for value in y_axis.ticks:
        y = y_axis.at(value)
        marks.append(tag("line", x1=_LEFT, x2=width - _RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(tag("text", number(round(value, 12)), x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for value in x_axis.ticks:
        marks.append(tag("text", number(round(value, 12)), x=x_axis.at(value), y=height - 7, text_anchor="middle"))
    return join(marks)


def _line(series: Series, x_axis: _Axis, y_axis: _Axis) -> Html:
    color = f"c{(series.color or 0) % 6}"
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in series.points]
    marks = []
    if not series.is_marks:
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        marks.append(tag("path", d=path, class_=f"line {color}"))
    if series.is_marks or len(places) <= _MOST_MARKS:
        marks.extend(
            tag(
                "g",
                tag("title", f"{series.name} {y:.4g} at {x:.6g}"),
                tag("circle", cx=px, cy=py, r=3.5 if series.is_marks else 2.5),
                class_=f"mark {color}",
            )
            for (px, py), (x, y) in zip(places, series.points, strict=True)
        )
    return join(marks)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most _MOST_POINTS points: means of neighbours, so that a long run stays a small page."""
    size = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\u2026"
