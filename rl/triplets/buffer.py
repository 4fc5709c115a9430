"""A bounded memory of triplets: no two alike, and when it is full the oldest leaves."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from rl.triplets.record import Triplet


class Buffer:
    """At most `size` triplets, in the order in which they came."""

    def __init__(self, size: int, triplets: Iterable[Triplet] = ()) -> None:
        self.size = size
        self._held: dict[str, Triplet] = {}
        for triplet in triplets:
            self.add(triplet)

    def add(self, triplet: Triplet) -> bool:
        """Whether it was new, and so is held now."""
        key = triplet.key
        if key in self._held:
            return False
        self._held[key] = triplet
        if len(self._held) > self.size:
            del self._held[next(iter(self._held))]
        return True

    def sample(self, n: int, draws: random.Random) -> list[Triplet]:
        """n of them, none twice; all, in some order, where there are fewer."""
        return draws.sample(list(self), min(n, len(self)))

    def __contains__(self, triplet: Triplet) -> bool:
        return triplet.key in self._held

    def __iter__(self) -> Iterator[Triplet]:
        return iter(self._held.values())

    def __len__(self) -> int:
        return len(self._held)
