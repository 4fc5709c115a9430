"""Training of weights: `rl.train(config) -> Run`. Nothing heavy is imported before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl.policies.base import Policy as Policy
    from rl.run import Run as Run
    from rl.run import evaluate as evaluate
    from rl.run import train as train

__all__ = ["Policy", "Run", "evaluate", "train"]

_HOMES = {"train": "rl.run", "evaluate": "rl.run", "Run": "rl.run", "Policy": "rl.policies.base"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rl' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
