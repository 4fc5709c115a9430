"""Facts: charts are well-formed XML, keep inside their box, and stay small."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.report.chart import Row, Series, interval_chart, line_chart

numbers = st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float) | st.floats(-1e-9, 1e-9)


def places(chart):
    """Every pixel coordinate of a chart's circles and paths."""
    tree = ElementTree.fromstring(chart)
    found = [(float(c.get("cx")), float(c.get("cy"))) for c in tree.iter("circle")]
    for path in tree.iter("path"):
        found += [tuple(map(float, pair.split())) for pair in re.split("[ML]", path.get("d"))[1:]]
    return found


@given(st.lists(st.lists(st.tuples(numbers, numbers), max_size=8), max_size=4), st.booleans())
def test_any_points_give_a_well_formed_chart_inside_its_box(curves, is_marks):
    chart = line_chart(
        [Series(f"<{i}>", c, is_marks) for i, c in enumerate(curves)], title="<t>", width=300, height=200
    )
    if not any(curves):
        assert chart == ""
        return
    assert all(-1 <= x <= 301 and -1 <= y <= 201 for x, y in places(chart))


@given(st.lists(st.tuples(st.text(max_size=30), numbers, numbers, numbers), min_size=1, max_size=6))
def test_intervals_stay_inside_their_box(rows):
    chart = interval_chart([Row(name, b, min(a, b), max(b, c)) for name, a, b, c in rows], title="t", width=480)
    assert all(0 <= x <= 480 for x, _ in places(chart))


def test_higher_values_stand_higher():
    chart = line_chart([Series("s", [(0, 0.0), (1, 1.0)])], title="t")
    (x0, y0), (x1, y1) = places(chart)[:2]
    assert x1 > x0 and y1 < y0


def test_a_constant_has_one_tick():
    tree = ElementTree.fromstring(line_chart([Series("s", [(1, 1e-5), (2, 1e-5)])], title="t"))
    assert next(t.text for t in tree.iter("text")) == "1e-05"


def test_a_long_run_stays_small():
    chart = line_chart([Series("s", [(i, i % 7) for i in range(100_000)])], title="t")
    assert len(chart) < 20_000


@pytest.mark.parametrize(("low", "high", "wanted"), [(0, 1, ["0", "0.5", "1"]), (0, 40, ["0", "10", "20", "30", "40"])])
def test_ticks_are_round_numbers(low, high, wanted):
    tree = ElementTree.fromstring(line_chart([Series("s", [(0, low), (1, high)])], title="t"))
    labels = [t.text for t in tree.iter("text")]
    assert set(wanted) <= set(labels)
