"""Language models behind one method: endpoints, the in-process model, scripts, records.

Nothing heavy is imported before it is used: each client's module is loaded with its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.spec import resolve

if TYPE_CHECKING:
    from engine.llm.cache import CachedLLM
    from engine.llm.local import LocalLLM
    from engine.llm.openai import OpenAILLM
    from engine.llm.scripted import ScriptedLLM

__all__ = [
    "LLM",
    "CachedLLM",
    "Completion",
    "LocalLLM",
    "Message",
    "OpenAILLM",
    "ScriptedLLM",
    "Usage",
    "resolve",
]

_MODULES = {
    "CachedLLM": "engine.llm.cache",
    "LocalLLM": "engine.llm.local",
    "OpenAILLM": "engine.llm.openai",
    "ScriptedLLM": "engine.llm.scripted",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'engine.llm' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
