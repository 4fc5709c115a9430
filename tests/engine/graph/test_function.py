"""The decorator: plain outside, nodes inside, on every kind of function."""

from __future__ import annotations

import asyncio
import collections
import inspect

import pytest

from engine import trace
from engine.errors import TraceError
from engine.params import Param


@trace.node
def add(a, b=1):
    """The sum."""
    return a + b


def parents(node):
    return {parent.name for parent in node.parents}


def test_outside_it_is_the_plain_function_with_values_of_params():
    x = trace.param(2, name="x")
    seen = []

    @trace.node
    def look(*args, **kwargs):
        seen.append((args, kwargs))

    pair = collections.namedtuple("pair", "a b")
    look(x, [x, 1], {"k": (x,)}, pair(x, x), key=x)
    (args, kwargs) = seen[0]
    assert args == (2, [2, 1], {"k": (2,)}, (2, 2)) and kwargs == {"key": 2}
    assert [type(v) for v in (args[0], args[1][0], args[2]["k"][0], args[3].a, kwargs["key"])] == [int] * 5
    assert add(x) == 3 and type(add(x)) is int
    assert add.__name__ == "add" and inspect.signature(add) == inspect.signature(lambda a, b=1: 0)


def test_inside_it_returns_nodes_and_off_suspends():
    with trace.record() as graph:
        y = add(1, 2)
        with trace.off():
            assert type(add(y, 2)) is int
            with trace.record() as inner:
                z = add(y)
        w = add(y)
    assert isinstance(y, trace.Node) and y.value == 3 and y.op.name == "add" and y.name == "add_1"
    assert y.op.description == "The sum." and "return a + b" in y.op.source
    assert graph.nodes == (y, w) and inner.nodes == (z,)


def test_nested_recordings_have_names_apart():
    with trace.record() as outer:
        a = add(1)
        with trace.record() as inner:
            b = add(a)
        c = add(b)
    assert [n.name for n in (a, b, c)] == ["add_1", "add_2", "add_3"]
    assert inner.nodes == (b,) and outer.nodes == (a, c)
    assert c.parents == (b,)


def test_param_inside_a_list_argument_keeps_its_dependency():
    x, y = trace.param(1, name="x"), trace.param(2, name="y")

    @trace.node
    def total(values, extra):
        return sum(values) + extra["n"][0]

    with trace.record():
        result = total([x, 5], extra={"n": (y,)})
    assert result.value == 8 and parents(result) == {"x", "y"}
    assert set(trace.backward(result)) == {x, y}


def test_defaults_that_are_params_are_parents_and_arrive_as_values():
    x = trace.param(2, name="x")

    @trace.node
    def scaled(n, factor=x):
        return type(factor), n * factor

    with trace.record():
        result = scaled(3)
        given = scaled(3, 4)
    assert result.value == (int, 6) and parents(result) == {"x"}
    assert given.value == (int, 12) and given.parents == ()
    assert scaled(3) == (int, 6)


def test_what_a_body_reads_from_outside_is_a_parent():
    x = trace.param(2, name="x")
    with trace.record():
        n = trace.value(10, name="n")

        @trace.node
        def closing(a):
            return a + n + x.value

        result = closing(1)
    assert result.value == 13 and type(result.value) is int and parents(result) == {"n", "x"}
    assert trace.backward(result)[x].code() == "closing_1 = closing(1)  # uses n, x"


def test_a_body_runs_plain_and_is_not_recorded():
    @trace.node
    def outer(a):
        inner = add(a, 1)
        assert type(inner) is int
        return inner * 2

    with trace.record() as graph:
        assert outer(3).value == 8
    assert [node.op.name for node in graph.nodes] == ["outer"]


def test_a_returned_node_is_unwrapped_and_stays_a_parent():
    with trace.record():
        n = trace.value(1, name="n")

        @trace.node
        def pick(flag):
            return [n, flag]

        result = pick(True)
    assert result.value == [1, True] and result.parents == (n,)


def test_a_function_can_change_its_callers_own_list():
    @trace.node
    def push(items, item):
        items.append(item)
        return len(items)

    mine = []
    with trace.record() as graph:
        assert push(mine, 1).value == 1
        assert push(mine, 2).value == 2
    assert mine == [1, 2]
    assert "push_2 = push([1], 2)" in graph.render("text")  # the record shows what it was at the call


def test_methods_classmethods_staticmethods_and_nested_functions():
    class Solver:
        def __init__(self):
            self.hint = trace.param("think", name="hint")

        @trace.node
        def solve(self, question):
            return f"{self.hint}: {question}"

        @trace.node
        @classmethod
        def made(cls, n):
            return cls.__name__ * n

        @staticmethod
        @trace.node
        def doubled(n):
            return 2 * n

    solver = Solver()
    assert solver.solve("why") == "think: why" and Solver.made(2) == "SolverSolver" and solver.doubled(2) == 4
    with trace.record() as graph:
        q = trace.value("why", name="q")
        answer = solver.solve(q)
        assert Solver.made(1).value == "Solver" and solver.doubled(3).value == 6
    assert answer.value == "think: why" and parents(answer) == {"q", "hint"}
    assert "solve_1 = solve(q)  # uses hint" in graph.render("text")


async def test_coroutines_are_recorded_and_gathered_in_order_of_the_calls():
    @trace.node
    async def slow(x, delay):
        await asyncio.sleep(delay)
        return x * 2

    assert inspect.iscoroutinefunction(slow)
    assert await slow(2, 0) == 4
    with trace.record() as graph:
        n = trace.value(1, name="n")
        first, second = await asyncio.gather(slow(n, 0.02), slow(5, 0))
        total = first + second
    assert total.value == 12 and first.parents == (n,)
    assert (first.name, second.name) == ("slow_1", "slow_2")
    assert len(graph.nodes) == 4


async def test_asyncio_tasks_record_apart():
    async def one(n):
        with trace.record() as graph:
            for _ in range(5):
                n = add(n)
                await asyncio.sleep(0)
        return graph, n

    results = await asyncio.gather(*(one(trace.value(k)) for k in range(8)))
    for k, (graph, n) in enumerate(results):
        assert n.value == k + 5
        assert [node.name for node in graph.nodes] == [f"add_{i}" for i in range(1, 6)]
    assert type(add(1)) is int


async def test_generators_and_async_generators():
    @trace.node
    def count(n):
        yield from range(n)

    @trace.node
    async def stream(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    assert list(count(3)) == [0, 1, 2] and [i async for i in stream(2)] == [0, 1]
    with trace.record():
        n = trace.value(3, name="n")
        counted = count(n)
        assert counted.value == [0, 1, 2] and counted.parents == (n,)
        assert sum(counted).value == 3
        items = [item async for item in stream(n)]
    assert [item.value for item in items] == [0, 1, 2]
    assert items[0].parents[0].parents == (n,)


def test_a_function_that_returns_a_coroutine_is_awaited_into_a_node():
    async def answer():
        return 42

    @trace.node
    def ask():
        return answer()

    async def main():
        with trace.record():
            return await ask()

    assert asyncio.run(main()).value == 42


def test_code_typed_into_a_repl_has_no_source_and_works():
    space = {"trace": trace}
    exec("@trace.node\ndef typed(x):\n    return x + 1\n", space)
    with trace.record():
        node = space["typed"](1)
    assert node.value == 2 and node.op.source is None
    with pytest.raises(TraceError, match="source of typed cannot be found"):
        exec("@trace.node(trainable=True)\ndef typed(x):\n    return x\n", space)


def test_builtins_and_lambdas_can_be_nodes_and_classes_cannot():
    with trace.record():
        assert trace.node(len)([1, 2]).value == 2
        assert trace.node(lambda x: x + 1)(1).value == 2
    with pytest.raises(TraceError, match="not the class"):
        trace.node(Param)


def test_name_and_description_options():
    @trace.node(name="ask", description="asks a person")
    def f(x):
        return x

    with trace.record():
        node = f(1)
    assert (node.name, node.op.name, node.op.description) == ("ask_1", "ask", "asks a person")
