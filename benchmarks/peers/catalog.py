"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable

from peers.puzzles import Puzzles
from peers.repair import Repair
from peers.settings import Arms, Numeric
from peers.task import Task

TASKS: dict[str, Callable[[int], Task]] = {
    "puzzles": Puzzles,
    "numeric": lambda seed: Numeric(seed, told=True),
    "blind": lambda seed: Numeric(seed, told=False),
    "repair": Repair,
    "arms": Arms,
}
"""A task of a name is made with a seed, from which its examples and its right answers follow."""
