"""Recordings: names, threads, memory, pictures."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
import xml.etree.ElementTree as ElementTree

import networkx
import pytest

from engine import trace
from engine.errors import TraceError


@trace.node
def add(a, b=1):
    return a + b


def test_two_nodes_never_share_a_display_name():
    x1, x2 = trace.param(1, name="x"), trace.param(2, name="x")
    with trace.record() as graph:
        trace.value(1, name="add_1"), trace.value(2, name="x"), trace.value(3, name="value_2")
        add(x1), add(x2), add(1), trace.value(1), trace.value(2), trace.value(3, name="add_2"), add(2)
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert {"x", "add_1", "add_2", "value_2"} <= set(names)


def test_nodes_of_different_recordings_get_labels_apart():
    a, b = trace.value(1, name="v"), trace.value(2, name="v")
    with trace.record() as graph:
        y = add(a, b)
    assert y.value == 3 and y.parents == (a, b)
    assert {node["name"] for node in graph.to_json()["nodes"]} == {"v", "v_2", "add_1"}
    assert "add_1 = add(v, v_2)" in graph.render("text")


def test_threads_record_apart_and_raise_nothing():
    barrier = threading.Barrier(8)
    results = {}

    def work(k):
        barrier.wait()
        plain = add(k)
        with trace.record() as graph:
            n = trace.value(k)
            for _ in range(200):
                n = add(n)
        results[k] = (plain, n.value, [node.name for node in graph.nodes])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    with trace.record() as outer:
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    expected = ["value_1", *(f"add_{i}" for i in range(1, 201))]
    assert results == {k: (k + 1, k + 200, expected) for k in range(8)}
    assert outer.nodes == ()


def test_map_records_the_same_graph_for_any_number_of_workers():
    def recorded(workers):
        x = trace.param(10, name="x")

        def item(n):
            time.sleep(0.002 * (5 - n))  # later items are faster
            return add(add(x, n), trace.value(n, name="mine"))

        with trace.record() as graph:
            results = trace.map(item, range(5), workers=workers)
            total = sum(results, start=trace.value(0))
        assert total.value == 50 + 20
        return graph.to_json()

    assert recorded(1) == recorded(4)
    assert trace.map(add, [1, 2], workers=2) == [2, 3]  # outside: plain


def test_map_carries_overlays_and_raises_the_first_error_of_the_items():
    x = trace.param(1, name="x")

    def fail(n):
        time.sleep(0.01 * (2 - n))
        raise ValueError(n)

    with trace.using({x: 7}):
        assert trace.map(lambda n: x.value + n, [0, 1]) == [7, 8]
    with pytest.raises(ValueError, match="0"):
        trace.map(fail, [0, 1], workers=2)

    async def slow(n):
        return n

    with pytest.raises(TraceError, match="gather"):
        trace.map(slow, [1])
    with pytest.raises(TraceError, match="workers is 0"):
        trace.map(add, [1], workers=0)


def test_parameters_that_leave_the_graph_are_told():
    x = trace.param("a", name="x")
    with trace.record() as graph:
        x.upper(), x + "b", x[0]
        assert graph.detached == ()
        f"{x}"
    assert graph.detached == (x,) and graph.params == (x,)


def test_a_dropped_graph_is_freed_at_once():
    x = trace.param(1, name="x")
    gc.collect()
    gc.disable()
    try:
        with trace.record() as graph:
            y = add(x) * 2
        watched = [weakref.ref(graph), weakref.ref(y), weakref.ref(y.parents[0])]
        del graph, y
        assert [ref() for ref in watched] == [None] * 3
    finally:
        gc.enable()


def test_nodes_hold_parents_and_neither_children_nor_graph():
    with trace.record() as graph:
        a = trace.value(1)
        b = add(a)
    watched = weakref.ref(b), weakref.ref(graph)
    del b, graph
    gc.collect()
    assert watched[0]() is None and watched[1]() is None and a.value == 1


def test_memory_does_not_grow_over_ten_thousand_steps():
    x = trace.param("text", name="x")

    def steps(count):
        for k in range(count):
            with trace.record():
                y = add(add(x, "a"), x).upper()
            trace.backward(y, "feedback")[x].code()
            x.set(f"text {k % 10}")

    steps(500)  # fills the caches
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    steps(10_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000


def test_exports_hold_the_same_graph():
    x = trace.param(2, name="x", description="a number")
    with trace.record() as graph:
        y = add(x, trace.value({"k": float("inf")}, name="m")["k"])
    plain = json.loads(json.dumps(graph.to_json()))
    whole = graph.to_networkx()
    assert networkx.is_directed_acyclic_graph(whole) and networkx.ancestors(whole, y.name) == set(whole) - {y.name}
    assert {tuple(edge) for edge in plain["edges"]} == set(whole.edges)
    assert whole.nodes["add_1"]["node"] is y and whole.nodes["add_1"]["value"] == float("inf")
    by_name = {node["name"]: node for node in plain["nodes"]}
    assert by_name["x"] == {
        "name": "x", "op": "param", "kind": "param", "value": 2, "parents": [], "line": "x = 2",
        "description": "a number",
    }  # fmt: skip
    assert by_name["m"]["value"] == "{'k': inf}"


def test_the_picture_is_svg_with_every_node_once_and_no_boxes_overlap():
    x = trace.param("<&>", name="x")
    with trace.record() as graph:
        values = [add(x, str(k)) for k in range(6)]
        total = values[0]
        for value in values[1:]:
            total = total + value + x
    root = ElementTree.fromstring(graph.render())
    boxes = [
        tuple(float(rect.get(key)) for key in ("x", "y", "width", "height"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert len(boxes) == len(graph.nodes)
    assert all(
        a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    )
    width, height = float(root.get("width")), float(root.get("height"))
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    assert any("<&>" in (title.text or "") for title in root.iter("{http://www.w3.org/2000/svg}title"))
    with pytest.raises(TraceError, match="svg, text"):
        graph.render("png")
    with trace.record() as empty:
        pass
    ElementTree.fromstring(empty.render())


def test_importing_trace_loads_nothing_heavy():
    heavy = ("torch", "transformers", "networkx", "numpy", "openai", "pydantic")
    code = f"import sys, engine.trace; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
