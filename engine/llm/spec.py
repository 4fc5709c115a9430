"""From what a user writes to a language model."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from engine.errors import ConfigError, EnvironmentMissing
from engine.llm.base import LLM

FORMS = "openai:MODEL, http://host:port/v1#MODEL, local:NAME (a known model, a hub id or a folder)"
EMBEDDED = "smollm2-135m"
CLIENTS = {
    "CachedLLM": "engine.llm.cache",
    "LensLLM": "engine.llm.lens",
    "LocalLLM": "engine.llm.local",
    "OpenAILLM": "engine.llm.openai",
    "ScriptedLLM": "engine.llm.scripted",
}


def resolve(spec: str | LLM | None = None, **options: Any) -> LLM:
    """The model that a spec names.

    "openai:MODEL": OpenAI, or the server at OPENAI_BASE_URL. "http://host:port/v1#MODEL" (or https):
    that server. "local:NAME": in this process. An LLM: itself. None: OPENAI_MODEL at
    OPENAI_BASE_URL or OpenAI when OPENAI_API_KEY or OPENAI_BASE_URL is set, else the embedded model, which is
    said on the terminal. Nothing is loaded or asked before the first call.
    options: of the client that is made, such as the `price` of OpenAILLM.
    Raises ConfigError for another form, LLMUnavailable where a key is missing.
    """
    if isinstance(spec, LLM):
        return spec
    if spec is None:
        return _from_environment(options)
    if not isinstance(spec, str):
        raise ConfigError(f"the model is {spec!r:.60}", place="llm", allowed=FORMS)
    scheme, _, rest = spec.partition(":")
    if scheme == "openai" and rest:
        return _made("OpenAILLM", rest, **options)
    if scheme == "local" and rest:
        return _made("LocalLLM", rest, **options)
    if scheme in ("http", "https"):
        base_url, _, model = spec.partition("#")
        if not model:
            raise ConfigError(f"'{_without_user(base_url)}' names no model", place="llm", allowed=FORMS)
        return _made("OpenAILLM", model, base_url=base_url, **options)
    raise ConfigError(f"'{spec:.80}' names no model", place="llm", allowed=FORMS)


def _from_environment(options: Mapping[str, Any]) -> LLM:
    wanted = [name for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY") if os.environ.get(name)]
    if not wanted:
        _say_weak()
        return _made("LocalLLM", EMBEDDED, **options)
    model = os.environ.get("OPENAI_MODEL")
    if not model:
        raise ConfigError(
            f"{wanted[0]} is set, OPENAI_MODEL is not",
            place="environment",
            next_step=f"set OPENAI_MODEL, or name the model: {FORMS}",
        )
    return _made("OpenAILLM", model, **options)


@functools.cache
def _say_weak() -> None:
    """Say once a process that the embedded model is used."""
    sys.stderr.write(
        f"No model was named and no OPENAI_* variable is set: using the embedded {EMBEDDED}, in this process.\n"
        "It is a weak proposer: its texts are little better than chance rewordings, so gains come from the search.\n"
        f"For a stronger one give llm= or the key llm: {FORMS}\n"
    )


def load_client(name: str) -> Any:
    """The client class of that name; its module is imported now. Raises EnvironmentMissing without its packages."""
    # Loaded on use because the openai package and torch take a second or more each.
    try:
        return getattr(importlib.import_module(CLIENTS[name]), name)
    except ModuleNotFoundError as error:
        raise EnvironmentMissing(
            f"{name} needs the package '{error.name}'", next_step="pip install 'trace-engine[rl]'"
        ) from None


def _made(name: str, *arguments: Any, **options: Any) -> LLM:
    client: LLM = load_client(name)(*arguments, **options)
    return client


def _without_user(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
