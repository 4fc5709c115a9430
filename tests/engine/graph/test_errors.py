"""Exceptions in node functions: error nodes, and the exception as it was."""

from __future__ import annotations

import asyncio

import pytest

from engine import trace


@trace.node(catch=True)
def strict(text):
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def test_an_exception_becomes_an_error_node_and_keeps_its_type():
    with trace.record() as graph:
        text = trace.value("five", name="text")
        with pytest.raises(ValueError, match="invalid literal") as caught:
            strict(text)
    node = trace.error_node(caught.value)
    assert node is graph.nodes[-1] and isinstance(node, trace.ErrorNode)
    assert node.error is caught.value and node.parents == (text,)
    assert node.feedback.text.startswith("ValueError: invalid literal for int() with base 10: 'five'")
    assert "in strict, line 2: number = int(text)" in node.feedback.text
    assert "call.py" not in node.feedback.text


def test_raise_without_text_does_not_crash():
    with trace.record():
        fallback = 0
        try:
            strict("-1")
        except ValueError as error:
            fallback, node = 7, trace.error_node(error)
    assert fallback == 7
    assert node.feedback.text == "ValueError\n  in strict, line 4: raise ValueError"


def test_error_node_is_found_through_causes_and_backward_takes_its_feedback():
    x = trace.param("a", name="x")
    with trace.record(), pytest.raises(RuntimeError) as caught:
        try:
            strict(x)
        except ValueError as error:
            raise RuntimeError("wrapped") from error
    node = trace.error_node(caught.value)
    subgraph = trace.backward(node)[x]
    assert subgraph.feedback is node.feedback
    assert subgraph.code() == "strict_1 = strict(x)  # raised ValueError"
    assert trace.backward(node, "mine")[x].feedback == "mine"
    assert trace.error_node(KeyError()) is None


async def test_exceptions_of_coroutines_and_generators_are_caught_too():
    @trace.node(catch=True)
    async def failing():
        await asyncio.sleep(0)
        raise KeyError("k")

    @trace.node(catch=True)
    def producing():
        yield 1
        raise KeyError("k")

    with trace.record():
        with pytest.raises(KeyError) as first:
            await failing()
        with pytest.raises(KeyError) as second:
            producing()
    assert "raise KeyError" in trace.error_node(first.value).feedback.text
    assert "raise KeyError" in trace.error_node(second.value).feedback.text


@trace.node
def concatenate(a, b):
    return a + b


def test_without_catch_an_exception_passes_unrecorded():
    with trace.record() as graph, pytest.raises(TypeError):
        concatenate("a", 1)
    assert graph.nodes == ()
    assert type(concatenate(1, 2)) is int  # the recording state came back
