"""Feedback sent back: exactly the closed-form sub-graph, in linear time, for any outputs and feedbacks."""

from __future__ import annotations

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import trace
from engine.errors import TraceError


@trace.node
def mix(*values):
    return sum(values)


def build(sizes, x_count):
    """A DAG: node i takes the sources and nodes that sizes[i] lists; returns params, nodes."""
    params = [trace.param(k, name=f"x{k}") for k in range(x_count)]
    with trace.record() as graph:
        nodes = []
        for picks in sizes:
            pool = [*params, *nodes]
            nodes.append(mix(*(pool[pick % len(pool)] for pick in picks)))
    return params, nodes, graph


def closed_form(graph, leaf, outputs):
    """The union over the outputs y below x of {y} and {c, parents(c)}: by networkx."""
    expected = set()
    below = networkx.descendants(graph, leaf)
    for y in outputs:
        if y == leaf or y in below:
            above = networkx.ancestors(graph, y) | {y}
            kept = below & above
            expected |= {y} | kept | {p for c in kept for p in graph.predecessors(c)}
    return expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 10**6), max_size=4), min_size=1, max_size=25),
    st.integers(1, 4),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
)
def test_the_subgraph_is_the_closed_form_of_networkx(sizes, x_count, picks):
    _, nodes, graph = build(sizes, x_count)
    outputs = [nodes[pick % len(nodes)] for pick in picks]
    whole = graph.to_networkx()
    feedbacks = [f"feedback {k}" for k in range(len(outputs))]
    given_back = trace.backward(outputs, feedbacks)
    leaves = {node.param: node.name for node in graph.nodes if isinstance(node, trace.ParamNode)}
    ends = [y.name for y in outputs]
    reachable = {p for p, leaf in leaves.items() if any(networkx.has_path(whole, leaf, y) for y in ends)}
    assert set(given_back) == reachable
    for param, subgraph in given_back.items():
        assert {node.name for node in subgraph.nodes} == closed_form(whole, leaves[param], ends)
        place = {id(node): k for k, node in enumerate(subgraph.nodes)}
        assert all(place[id(a)] < place[id(b)] for a, b in subgraph.edges)
        assert {(a.name, b.name) for a, b in subgraph.edges} <= set(whole.edges)
        reached = [k for k, y in enumerate(ends) if networkx.has_path(whole, leaves[param], y)]
        assert subgraph.feedbacks == tuple(feedbacks[k] for k in reached)


def test_a_times_a():
    a = trace.param(3, name="a")
    with trace.record():
        y = a * a
    subgraph = trace.backward(y, "too high")[a]
    assert subgraph.code() == "multiply_1 = multiply(a, a)"
    assert [node.name for node in subgraph.nodes] == ["a", "multiply_1"] and len(subgraph.edges) == 1
    assert subgraph.output is y and subgraph.feedback == "too high" and subgraph.params == (a,)


def test_the_trace_papers_figure():
    """a, b, c, d with only what depends on x shown whole; the border stops there."""
    x = trace.param(-1.0, name="x")
    with trace.record():
        base = trace.value(2.0, name="base")
        hidden = base * 10  # not shown: no descendant of x
        b = x + hidden
        y = b * x
        y * 100  # not shown: no ancestor of the output
    subgraph = trace.backward(y, "higher")[x]
    assert [node.name for node in subgraph.nodes] == ["x", "multiply_1", "add_1", "multiply_2"]
    assert subgraph.code() == "add_1 = add(x, multiply_1)\nmultiply_2 = multiply(add_1, x)"
    assert [node.name for node in subgraph.inputs] == ["multiply_1"]


def test_several_outputs_with_several_feedbacks_lose_nothing():
    a, b = trace.param(1, name="a"), trace.param(2, name="b")
    with trace.record():
        p, q = a + 1, a * b
    subgraphs = trace.backward([p, q], ["low", "high"])
    assert subgraphs[a].outputs == (p, q) and subgraphs[a].feedback == ("low", "high")
    assert subgraphs[b].output is q and subgraphs[b].feedback == "high"
    merged = trace.Subgraph.merge(subgraphs.values())
    assert merged.feedbacks == ("low", "high") and set(merged.params) == {a, b}
    assert set(merged.nodes) == {n for s in subgraphs.values() for n in s.nodes}
    assert trace.backward({"p": p, "q": q}, "both")[a].feedbacks == ("both", "both")
    assert trace.backward([p, p], ["first", "second"])[a].feedbacks == ("first", "second")


def test_outputs_that_cannot_be_used_are_refused():
    a = trace.param(1, name="a")
    with trace.record():
        y = a + 1
    with pytest.raises(TraceError, match="holds no node"):
        trace.backward(3, "feedback")
    with pytest.raises(TraceError, match="1 outputs and 2 feedbacks"):
        trace.backward([y], ["a", "b"])


def test_a_parameter_returned_untouched_and_an_output_without_parameters():
    a = trace.param(1, name="a")
    subgraph = trace.backward(a, "no")[a]
    assert [node.name for node in subgraph.nodes] == ["a"] and subgraph.edges == () and subgraph.code() == ""
    assert subgraph.output.value == 1
    with trace.record():
        y = trace.value(1) + 1
    assert trace.backward(y, "no") == {}


def test_deep_chains_need_no_recursion_and_are_walked_once():
    x = trace.param(0, name="x")
    with trace.record():
        y = x + 0
        for _ in range(20_000):
            y = y + 1
    subgraph = trace.backward(y, "far")[x]
    assert len(subgraph.nodes) == 20_002 and len(subgraph.edges) == 20_001 and subgraph.output is y
    del subgraph, y  # freeing the chain must not recurse either


def test_a_grid_with_exponentially_many_paths():
    x = trace.param(1, name="x")
    with trace.record():
        row = [x + 0] * 30
        for _ in range(30):
            for k in range(1, 30):
                row[k] = mix(row[k - 1], row[k])
    subgraph = trace.backward(row[-1], "no")[x]
    assert len(subgraph.nodes) == 2 + 30 * 29


def test_a_graph_is_unchanged_by_backward():
    x = trace.param(1, name="x")
    with trace.record() as graph:
        y = x + 1
    before = graph.to_json()
    first = trace.backward(y, "a")[x].to_json()
    assert trace.backward(y, "a")[x].to_json() == first and graph.to_json() == before


def test_one_parameter_under_two_values_is_one_parameter():
    x = trace.param(1, name="x")
    with trace.record():
        a = x + 1
        with trace.using({x: 5}):
            b = x + 1
        y = a + b
    assert y.value == 8
    subgraph = trace.backward(y, "no")[x]
    assert sorted(node.value for node in subgraph.nodes if isinstance(node, trace.ParamNode)) == [1, 5]
    assert len({subgraph.label(node) for node in subgraph.nodes}) == len(subgraph.nodes) == 5


def test_long_values_and_literals_are_shown_whole():
    long = "word " * 5000
    x = trace.param(long, name="x")
    with trace.record():
        y = x + long
    subgraph = trace.backward(y, "no")[x]
    assert subgraph.text(subgraph.output) == long * 2
    assert repr(long) in subgraph.code()


def test_documentation_tells_what_each_operation_does():
    @trace.node
    def ask(instruction: str, question: str) -> str:
        """Asks the model."""
        return instruction + question

    x = trace.param("a", name="x")
    with trace.record():
        y = ask(x, "q").upper() + "!"
    subgraph = trace.backward(y, "no")[x]
    assert subgraph.code() == "ask_1 = ask(x, 'q')\nupper_1 = ask_1.upper()\nadd_1 = add(upper_1, '!')"
    first, second = subgraph.documentation().splitlines()
    assert first.startswith("[ask] ask(instruction: ") and first.endswith(": Asks the model.")
    assert second == "[add] add(left, right): left + right"
    assert "return instruction + question" in subgraph.documentation(sources=True)
