"""Sources: where prompts come from. Adding one means one file here that binds SOURCE."""

from __future__ import annotations

from engine.registry import Registry
from rl.sources.base import ListSource, Source, SourceConfig

__all__ = ["SOURCES", "ListSource", "Source", "SourceConfig", "load", "names"]

SOURCES = Registry("source", package="rl.sources", group="engine.sources", attribute="SOURCE")


def names() -> list[str]:
    """The kinds of source that this installation has."""
    return SOURCES.names()


def load(kind: str, *, place: str | None = None) -> type[Source]:
    """The source class of that kind. Raises UnknownName, with the nearest name."""
    source: type[Source] = SOURCES.load(kind, place=place)
    return source
