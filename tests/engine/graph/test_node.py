"""What Python does to nodes: the same values as without recording, and the dependencies beside them."""

from __future__ import annotations

import collections
import math
import operator

import numpy
import pytest

from engine import trace
from engine.errors import TraceError

BINARY = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, divmod,
    operator.pow, operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
    operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift,
]  # fmt: skip


@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
def test_binary_operators_give_the_plain_result_and_record_both_sides(function):
    with trace.record():
        a, b = trace.value(7, name="a"), trace.value(2, name="b")
        both, left, right = function(a, b), function(a, 2), function(7, b)
    assert both.value == left.value == right.value == function(7, 2)
    assert (both.parents, left.parents, right.parents) == ((a, b), (a,), (b,))


@pytest.mark.parametrize("function", [operator.neg, operator.pos, abs, operator.invert, round, math.floor, math.ceil])
def test_unary_operators_are_recorded(function):
    with trace.record():
        a = trace.value(-3, name="a")
        result = function(a)
    assert result.value == function(-3)
    assert result.parents[0] is a


def test_what_python_wants_plain_is_plain():
    with trace.record():
        n, text, values = trace.value(3), trace.value("abc"), trace.value([1, 2])
        assert type(bool(n)) is bool and type(int(n)) is int and type(len(values)) is int
        assert f"{text}-{n:03d}" == "abc-003" and str(text) == "abc" and f"{[n, text]}" == "[3, 'abc']"
        assert list(range(n)) == [0, 1, 2] and math.sqrt(trace.value(9.0)) == 3.0
        assert "b" in text and 2 in values


def test_index_slice_iteration_unpacking_attribute_and_method_are_recorded():
    Point = collections.namedtuple("Point", "x y")
    with trace.record():
        words = trace.value(["one", "two", "three"], name="words")
        second, tail = words[1], words[1:]
        first, *_ = words
        upper = second.upper()
        point = trace.value(Point(1, 2), name="point")
    assert (second.value, tail.value, first.value, upper.value) == ("two", ["two", "three"], "one", "TWO")
    assert all(node.parents == (words,) for node in (second, tail, first))
    with trace.record() as graph:
        moved = point.x + point._replace(x=5).y
    assert moved.value == 3
    assert "x_1 = point.x" in graph.render("text") and "_replace_1 = point._replace(x=5)" in graph.render("text")


def test_dicts_sets_and_iterators_iterate_as_they_do_outside():
    with trace.record():
        mapping = trace.value({"a": 1, "b": 2})
        assert [key.value for key in mapping] == ["a", "b"]
        assert {key.value: item.value for key, item in mapping.items()} == {"a": 1, "b": 2}
        assert sorted(item.value for item in trace.value({3, 1})) == [1, 3]


def test_a_called_value_is_recorded():
    with trace.record():
        function = trace.value(max, name="function")
        result = function(trace.value(2), 5)
    assert result.value == 5
    assert result.parents[0] is function


def test_attributes_of_callable_objects_stay_reachable():
    class Model:
        class Inner:
            depth = 3

            def __call__(self, x):
                return x + 1

        inner = Inner()

    with trace.record():
        model = trace.value(Model(), name="model")
        assert model.inner.depth.value == 3
        assert model.inner(4).value == 5


def test_names_of_the_node_hide_those_of_the_value_which_stay_reachable():
    class Person:
        name = "Ada"

    with trace.record():
        person = trace.value(Person(), name="person")
        assert person.name == "person"
        assert person.__getattr__("name").value == "Ada"


def test_nodes_are_frozen():
    with trace.record():
        node = trace.value([1], name="node")
    for attribute in ("value", "name", "op", "parents", "anything"):
        with pytest.raises(AttributeError):
            setattr(node, attribute, 1)
    with pytest.raises(TraceError, match="do not change"):
        node[0] = 2
    with pytest.raises(TraceError, match="do not change"):
        del node[0]


def test_equal_nodes_stay_apart_in_sets_and_networkx():
    with trace.record() as graph:
        a, b = trace.value(1, name="a"), trace.value(1, name="b")
        assert len({a, b}) == 2
    assert len(graph.to_networkx()) == 2 + 0


def test_numpy_on_either_side_is_recorded():
    with trace.record():
        x = trace.value(2.0, name="x")
        total = numpy.array([1.0, 2.0]) + x
        root = numpy.sqrt(x)
    assert total.value.tolist() == [3.0, 4.0] and total.parents == (x,)
    assert root.value == pytest.approx(2**0.5) and root.parents == (x,)


def test_outside_a_recording_nodes_give_plain_values():
    with trace.record():
        node = trace.value(3, name="node")
    assert type(node + 1) is int and type(-node) is int and (node == 3) is True
    assert [type(item) for item in trace.value([1])] == [int]
    assert trace.value("a").upper() == "A"


def test_values_with_nodes_inside_keep_them_as_parents():
    with trace.record():
        a = trace.value(1, name="a")
        group = trace.value({"k": [a]}, name="group")
    assert group.value == {"k": [1]} and group.parents == (a,)


def test_a_repr_that_fails_does_not_stop_a_drawing():
    class Rude:
        def __repr__(self):
            raise RuntimeError

    with trace.record() as graph:
        trace.value(Rude(), name="rude")
    assert "whose repr raised RuntimeError" in graph.render("text")


def test_texts_hold_no_memory_addresses():
    class Thing:
        pass

    with trace.record() as graph:
        trace.value(Thing(), name="thing")
    assert "0x" not in graph.render("text") and "Thing object" in graph.render("text")


def test_a_list_that_holds_itself_is_passed_and_shown():
    loop = [1]
    loop.append(loop)
    with trace.record() as graph:
        assert trace.node(len)(loop).value == 2
    assert "len_1 = len([1, [1, [...]]])" in graph.render("text")


def test_slices_by_nodes_depend_on_them():
    with trace.record():
        words, n = trace.value(["a", "b", "c"], name="words"), trace.value(1, name="n")
        tail = words[n:]
    assert tail.value == ["b", "c"] and tail.parents == (words, n)
