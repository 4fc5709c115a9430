"""On-policy and other training methods, one file each, found by name: rl/methods/NAME.py binds METHOD."""

from typing import Any

from engine.registry import Registry

HINTS = {
    "sppo": "SPPO (Wu et al., 2405.00675) regresses win rates on log-ratios and is not here; 'spo' is Swamy et al., "
    "2401.04056, with the same aim: self-play on preferences that no scalar reward explains",
}
"""Methods that are taken for one of ours, and what they are."""

METHODS = Registry("method", package="rl.methods", group="engine.methods", attribute="METHOD", hints=HINTS)


def names() -> list[str]:
    """The names of all methods, sorted; loads none of them."""
    return METHODS.names()


def load(name: str, *, place: str | None = None) -> Any:
    """The method class of that name. Raises UnknownName, with the nearest name and `place`."""
    return METHODS.load(name, place=place)


__all__ = ["METHODS", "load", "names"]
