"""Make a Python program with language models in it better: by words, by gradients, or by human rankings.

`from engine import trace, optimize, Feedback, Budget, Result`; and Media for pictures, Together and Part for several
workflows. The names are loaded when they are first used, so that `import engine` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine import trace as trace
    from engine.budget import Budget as Budget
    from engine.feedback import Feedback as Feedback
    from engine.loop import optimize as optimize
    from engine.loop import optimize_async as optimize_async
    from engine.media import Media as Media
    from engine.result import Result as Result
    from engine.together import Part as Part
    from engine.together import Together as Together

_HOMES = {
    "Budget": "engine.budget",
    "Feedback": "engine.feedback",
    "Media": "engine.media",
    "Part": "engine.together",
    "Result": "engine.result",
    "Together": "engine.together",
    "optimize": "engine.loop",
    "optimize_async": "engine.loop",
}

__all__ = ["Budget", "Feedback", "Media", "Part", "Result", "Together", "optimize", "optimize_async", "trace"]


def __getattr__(name: str) -> Any:
    if name == "trace":
        return importlib.import_module("engine.trace")
    if name not in _HOMES:
        raise AttributeError(f"module 'engine' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
