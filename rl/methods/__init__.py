"""On-policy and other training methods, one file each, found by name: rl/methods/NAME.py binds METHOD."""

from typing import Any

from engine.registry import Registry

METHODS = Registry(
    "method",
    package="rl.methods",
    group="engine.methods",
    attribute="METHOD",
    besides=["zo_ranksgd"],  # an ask/tell loop of its own: no trainer runs it
)


def names() -> list[str]:
    """The names of all methods, sorted; loads none of them."""
    return METHODS.names()


def load(name: str, *, place: str | None = None) -> Any:
    """The method class of that name. Raises UnknownName, with the nearest name and `place`."""
    return METHODS.load(name, place=place)


__all__ = ["METHODS", "load", "names"]
