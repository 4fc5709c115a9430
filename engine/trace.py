"""Traced programs: `from engine import trace`, then `@trace.node`, `trace.param`, `trace.record()`.

instruction = trace.param("Answer with one number.", name="instruction")

@trace.node
def ask(instruction: str, question: str) -> str: ...

with trace.record() as graph:
    answer = ask(instruction, "What is 2 + 3?")
print(graph.render("text"))
trace.backward(answer, "too long")[instruction].code()
"""

from __future__ import annotations

from engine.graph.backward import backward
from engine.graph.errors import error_node
from engine.graph.function import node
from engine.graph.module import Module
from engine.graph.node import ErrorNode, Node, ParamNode
from engine.graph.pool import parallel_map as map
from engine.graph.subgraph import Subgraph
from engine.graph.tracer import Graph, off, record, value
from engine.params import Param, param, using

__all__ = [
    "ErrorNode",
    "Graph",
    "Module",
    "Node",
    "Param",
    "ParamNode",
    "Subgraph",
    "backward",
    "error_node",
    "map",
    "node",
    "off",
    "param",
    "record",
    "using",
    "value",
]
