"""The picture of a recorded graph, from what the journal holds of it."""

from __future__ import annotations

from engine.graph.render import Box, draw
from engine.report.data import Row
from engine.report.html import Html, as_text, clip, details, pre, tag, visible

_MOST_NODES = 150


def drawing(graph: Row) -> Html:
    """The graph as a drawing and, behind a click, as lines of code; Html("") where there is none.

    graph: `{"nodes": [{"name", "kind", "value", "line"}...], "edges": [[parent, child]...]}`, parents first.
    """
    nodes = [node for node in graph.get("nodes") or () if isinstance(node, dict) and "name" in node]
    if not nodes:
        return Html("")
    lines = details("as code", pre("\n".join(clip(as_text(node.get("line", node["name"])), 300) for node in nodes)))
    if len(nodes) > _MOST_NODES:
        return Html(tag("p", f"{len(nodes)} nodes are too many to draw.", class_="muted") + lines)
    places = {str(node["name"]): index for index, node in enumerate(nodes)}
    edges = [
        (places[str(parent)], places[str(child)])
        for parent, child in graph.get("edges") or ()
        if str(parent) in places and str(child) in places and places[str(parent)] < places[str(child)]
    ]
    return Html(tag("div", Html(draw([_box(node) for node in nodes], edges)), class_="graph") + lines)


def _box(node: Row) -> Box:
    """What is drawn is escaped by the drawing; here it only becomes short and visible."""
    name, text, kind, line = (node.get(key, "") for key in ("name", "value", "kind", "line"))
    return Box(visible(str(name)), visible(clip(as_text(text), 1000)), str(kind), visible(clip(str(line), 1000)))
