"""Language models behind one method: endpoints, the in-process model, scripts, records.

Nothing heavy is imported before it is used: each client's module is loaded with its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.spec import CLIENTS, load_client, resolve

if TYPE_CHECKING:
    from engine.llm.cache import CachedLLM
    from engine.llm.lens import LensLLM
    from engine.llm.local import LocalLLM
    from engine.llm.openai import OpenAILLM
    from engine.llm.scripted import ScriptedLLM

__all__ = [
    "LLM",
    "CachedLLM",
    "Completion",
    "LensLLM",
    "LocalLLM",
    "Message",
    "OpenAILLM",
    "ScriptedLLM",
    "Usage",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in CLIENTS:
        raise AttributeError(f"module 'engine.llm' has no attribute '{name}'")
    return load_client(name)


def __dir__() -> list[str]:
    return sorted(__all__)
