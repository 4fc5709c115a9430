"""Which parameters a workflow has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine import sandbox
from engine.errors import ParamError, TraceError
from engine.params import Param
from engine.sieve import is_proposable
from engine.trace import Graph, Module, ParamNode


def of_workflow(workflow: Callable[..., Any]) -> list[Param]:
    """The parameters of a Module, of a bound method's Module, or none."""
    owner = workflow if isinstance(workflow, Module) else getattr(workflow, "__self__", None)
    return owner.parameters() if isinstance(owner, Module) else []


def in_graph(graph: Graph) -> list[Param]:
    """The parameters that a recorded run used, those read as plain values last."""
    nodes = [node.param for node in graph.nodes if isinstance(node, ParamNode)]
    return unique([*nodes, *graph.detached])


def unique(params: Iterable[Param]) -> list[Param]:
    """Each parameter once, in order; by identity, because == compares values."""
    return list({id(param): param for param in params}.values())


def check_params(params: Sequence[Param]) -> None:
    """Refuse a set of parameters that cannot be optimized.

    Raises TraceError (none), SandboxUnavailable (only code, and nothing may run it), ParamError (two of one name).
    """
    if not params:
        raise TraceError(
            "the workflow used no parameter, so there is nothing to optimize",
            allowed="values made with trace.param(...), or a trace.Module that holds some",
            next_step='mark what may change, for example instruction = trace.param("Answer briefly.")',
        )
    if not any(map(is_proposable, params)):
        if any(param.kind == "code" for param in params):
            _ = sandbox.shared().tier  # raises SandboxUnavailable, with what is missing
        raise TraceError(
            "no parameter of the workflow can be optimized: " + "; ".join(left_out(params)),
            allowed="text, number, integer, choice, flag, json, and the code of functions",
        )
    by_name: dict[str, Param] = {}
    for param in params:
        other = by_name.setdefault(param.name, param)
        if other is not param:
            raise ParamError(
                f"two parameters are called '{param.name}'",
                place=", ".join(_place(p) for p in (other, param)),
                next_step="give each a name of its own: trace.param(..., name=...)",
            )


def left_out(params: Iterable[Param]) -> list[str]:
    """'parse: nothing here may run the code...' for each parameter for which nothing can be proposed."""
    return [f"{param.name}: {param.obstacle}" for param in params if param.obstacle]


def _place(param: Param) -> str:
    return "{}:{}".format(*param.origin) if param.origin else "(unknown place)"
