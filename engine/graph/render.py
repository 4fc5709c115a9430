"""A layered drawing of a graph as SVG: rows by longest path, crossings reduced, straight reading down."""

from __future__ import annotations

import html
import itertools
from dataclasses import dataclass

WIDTH_PER_CHARACTER, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 7.2, 46.0, 26.0, 48.0, 20.0
MAX_CHARACTERS = 30
SWEEPS = 8

# Fill and line by kind of node.
_COLOURS = {
    "param": ("#fff3d6", "#c98a00"),
    "input": ("#eef2f7", "#7a8aa0"),
    "error": ("#fde4e1", "#c0392b"),
}
_OTHER = ("#e8f1ff", "#3f76c2")


@dataclass(frozen=True)
class Box:
    """A node to draw: its name, its value's text, its kind, and the line of code that made it."""

    name: str
    text: str
    kind: str
    line: str

    @property
    def width(self) -> float:
        return max(len(_short(self.name)), len(_short(self.text)), 6) * WIDTH_PER_CHARACTER + 20


def draw(boxes: list[Box], edges: list[tuple[int, int]]) -> str:
    """An SVG document. Long texts are cut with an ellipsis; the whole is in each box's tooltip.

    boxes come parents first; edges are (parent, child) places in it.
    """
    layers = _layers(len(boxes), edges)
    routes, layers = _routes(layers, edges)
    steps = [step for route in routes for step in itertools.pairwise(route)]
    widths = [box.width for box in boxes] + [0.0] * (len(layers) - len(boxes))
    rows = _ordered(_rows(layers), steps)
    centre = _centres(rows, widths, steps)
    total_width = max((x + width / 2 for x, width in zip(centre, widths, strict=True)), default=0) + MARGIN
    total_height = 2 * MARGIN + len(rows) * BOX_HEIGHT + max(len(rows) - 1, 0) * GAP_Y
    top = [MARGIN + layer * (BOX_HEIGHT + GAP_Y) for layer in layers]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width:.0f} {total_height:.0f}" '
        f'width="{total_width:.0f}" height="{total_height:.0f}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#8a94a3"/></marker></defs>',
        *(_edge([(centre[i], top[i]) for i in route]) for route in routes),
        *(_box(box, x, y) for box, x, y in zip(boxes, centre, top, strict=False)),
        "</svg>",
    ]
    return "\n".join(parts)


def _routes(layers: list[int], edges: list[tuple[int, int]]) -> tuple[list[list[int]], list[int]]:
    """Each edge as its way through the rows, and the layers with the way-points added behind the nodes.

    A way-point takes room in its row like a node without width, so that long edges pass between boxes.
    """
    layers = list(layers)
    routes = []
    for parent, child in edges:
        between = range(layers[parent] + 1, layers[child])
        routes.append([parent, *range(len(layers), len(layers) + len(between)), child])
        layers.extend(between)
    return routes, layers


def _layers(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """The row of each node: one below its lowest parent; sources stand just above their first use."""
    layer = [0] * count
    for parent, child in sorted(edges, key=lambda edge: edge[1]):
        layer[child] = max(layer[child], layer[parent] + 1)
    has_parents = {child for _, child in edges}
    first_use: dict[int, int] = {}
    for parent, child in edges:
        first_use[parent] = min(first_use.get(parent, layer[child]), layer[child])
    return [row if i in has_parents else max(first_use.get(i, 1) - 1, 0) for i, row in enumerate(layer)]


def _rows(layers: list[int]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for node, layer in enumerate(layers):
        rows[layer].append(node)
    return rows


def _ordered(rows: list[list[int]], edges: list[tuple[int, int]]) -> list[list[int]]:
    """Rows sorted by the mean place of their neighbours, downwards and upwards in turn (Sugiyama's barycentres)."""
    near = _neighbours(edges)
    for sweep in range(SWEEPS):
        place = {node: i - len(row) / 2 for row in rows for i, node in enumerate(row)}
        for row in rows if sweep % 2 == 0 else reversed(rows):
            side = near[sweep % 2]
            means = {n: _mean([place[m] for m in side.get(n, ())], place[n]) for n in row}
            row.sort(key=means.__getitem__)
            place.update({node: i - len(row) / 2 for i, node in enumerate(row)})
    return rows


def _centres(rows: list[list[int]], widths: list[float], edges: list[tuple[int, int]]) -> list[float]:
    """x of each box: near the mean of its neighbours, in row order, without overlap, from the left margin on."""
    near = _neighbours(edges)
    x = [0.0] * len(widths)
    for row in rows:
        _spread(row, widths, x, dict.fromkeys(row, 0.0))
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            side = near[sweep % 2]
            _spread(row, widths, x, {n: _mean([x[m] for m in side.get(n, ())], x[n]) for n in row})
    left = min((x[i] - width / 2 for i, width in enumerate(widths)), default=0.0)
    return [centre - left + MARGIN for centre in x]


def _spread(row: list[int], widths: list[float], x: list[float], wished: dict[int, float]) -> None:
    """Place a row: everyone at the wished x, pushed right where boxes would overlap, then centred on the wishes."""
    edge = float("-inf")
    for node in row:
        half = widths[node] / 2
        x[node] = max(wished[node], edge + half)
        edge = x[node] + half + GAP_X
    shift = _mean([x[node] - wished[node] for node in row], 0.0)
    for node in row:
        x[node] -= shift


def _neighbours(edges: list[tuple[int, int]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Parents by child, and children by parent."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for parent, child in edges:
        above.setdefault(child, []).append(parent)
        below.setdefault(parent, []).append(child)
    return above, below


def _mean(numbers: list[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def _edge(points: list[tuple[float, float]]) -> str:
    """A curve from the foot of the first box through the rows between to the head of the last; points are tops."""
    x, y = points[0][0], points[0][1] + BOX_HEIGHT
    way = f"M{x:.1f} {y:.1f}"
    for place, (x2, y2) in enumerate(points[1:], start=1):
        is_last = place == len(points) - 1
        bend = (y2 - y) / 2
        way += f"C{x:.1f} {y + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2 - 2 * is_last:.1f}"
        if not is_last:
            way += f"V{y2 + BOX_HEIGHT:.1f}"
        x, y = x2, y2 + BOX_HEIGHT
    return f'<path d="{way}" fill="none" stroke="#8a94a3" stroke-width="1.3" marker-end="url(#arrow)"/>'


def _box(box: Box, x: float, y: float) -> str:
    fill, line = _COLOURS.get(box.kind, _OTHER)
    left = x - box.width / 2
    return (
        f"<g><title>{html.escape(box.line)}\n\n{html.escape(box.text)}</title>"
        f'<rect x="{left:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{BOX_HEIGHT}" rx="7" '
        f'fill="{fill}" stroke="{line}" stroke-width="1.3"/>'
        f'<text x="{x:.1f}" y="{y + 19:.1f}" text-anchor="middle" font-weight="600" fill="#1d2530">'
        f"{html.escape(_short(box.name))}</text>"
        f'<text x="{x:.1f}" y="{y + 36:.1f}" text-anchor="middle" fill="#4a5563">{html.escape(_short(box.text))}</text>'
        "</g>"
    )


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_CHARACTERS else flat[: MAX_CHARACTERS - 1] + "…"
