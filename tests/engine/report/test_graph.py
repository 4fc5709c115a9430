"""Facts: the journal's graph becomes a drawing with every node and edge; strange ones do not break it."""

import xml.etree.ElementTree as ElementTree

import pytest

from engine import trace
from engine.report.graph import drawing

SVG = "{http://www.w3.org/2000/svg}"


def test_a_recorded_graph_is_drawn():
    prompt = trace.param("Answer <briefly>.", name="prompt")

    @trace.node
    def ask(instruction, question):
        return f"{instruction} {question}"

    with trace.record() as graph:
        ask(prompt, trace.value("2+2?", name="question"))
    markup = drawing(graph.to_json())
    svg = ElementTree.fromstring(markup[markup.index("<svg") : markup.index("</svg>") + 6])
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"prompt", "question", "Answer <briefly>."} <= set(texts)
    assert len(list(svg.iter(f"{SVG}rect"))) == 3
    assert "as code" in markup


def test_a_large_graph_is_shown_as_code():
    nodes = [{"name": f"n{i}", "line": f"n{i} = f({i})"} for i in range(1000)]
    markup = drawing({"nodes": nodes, "edges": []})
    assert "<svg" not in markup and "n999 = f(999)" in markup


@pytest.mark.parametrize("graph", [{}, {"nodes": None}, {"nodes": [3]}])
def test_nothing_to_draw(graph):
    assert drawing(graph) == ""


def test_edges_to_unknown_nodes_and_cycles_are_left_out():
    nodes = [{"name": "a", "value": {"x": "\x00"}}, {"name": "b"}]
    assert "<svg" in drawing({"nodes": nodes, "edges": [["a", "b"], ["b", "a"], ["a", "z"]]})
