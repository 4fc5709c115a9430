"""`trace.map`: a function over items on several threads, recorded as if it were one."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from engine.errors import TraceError
from engine.graph.node import ParamNode
from engine.graph.op import Op
from engine.graph.state import STATE
from engine.graph.tracer import VALUE, Graph

if TYPE_CHECKING:
    from engine.graph.containers import Operand
    from engine.params import Param


class Branch(Graph):
    """The recording of one item: its nodes join the main graph in the order of the items."""

    def __init__(self, trunk: Graph) -> None:
        super().__init__()
        self.trunk = trunk

    def leaf(self, param: Param) -> ParamNode:
        return self.trunk.leaf(param)

    def read(self, operand: Operand) -> None:
        self.trunk.read(operand)

    def join(self) -> None:
        """Move the nodes over, named as if the items had run one after the other."""
        names = self.trunk._names
        for node in self._nodes:
            node._name = names.claim(node._name) if _has_given_name(node.op, node._name) else names.next(node.op.name)
        self.trunk._nodes.extend(self._nodes)


def parallel_map(function: Callable[[Any], Any], items: Iterable[Any], *, workers: int = 4) -> list[Any]:
    """[function(item) for item in items] on up to `workers` threads.

    Each call runs in a copy of this context (recording, overlay of parameters), and the graph does
    not depend on which call was faster. The first exception, in order of the items, is raised when
    all have ended. Raises TraceError for a coroutine function.
    """
    if inspect.iscoroutinefunction(function):
        raise TraceError(
            "trace.map was given a coroutine function",
            next_step="use asyncio.gather, which carries the recording by itself",
        )
    if workers < 1:
        raise TraceError(f"workers is {workers}", allowed="1 or more")
    trunk = STATE.get()
    branches: list[Branch] = []
    futures: list[Future[Any]] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="trace.map") as pool:
        for item in items:
            context = contextvars.copy_context()
            if isinstance(trunk, Graph):
                branches.append(Branch(trunk))
                context.run(STATE.set, branches[-1])
            futures.append(pool.submit(context.run, function, item))
    for branch in branches:
        branch.join()
    return [future.result() for future in futures]


def _has_given_name(op: Op, name: str) -> bool:
    return op is VALUE and not name.startswith(f"{VALUE.name}_")
