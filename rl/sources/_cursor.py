"""A shuffled walk over n items that can be left and taken up again exactly."""

from __future__ import annotations

import random
from typing import Any

from engine.errors import CheckpointError


class Cursor:
    """Indices 0..size-1 in an order that is new every epoch and depends on (seed, epoch) only.

    Its state is three small numbers, so a checkpoint can hold it and a person can read it.
    """

    def __init__(self, size: int, seed: int | str) -> None:
        self.size, self.seed, self.epoch, self.position = size, seed, 0, 0
        self._order = self._permutation()

    def take(self, n: int) -> list[int]:
        """The next n indices; an epoch that ends within them is followed by the next one."""
        taken: list[int] = []
        while len(taken) < n:
            if self.position == self.size:
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._permutation()
            piece = self._order[self.position : self.position + n - len(taken)]
            self.position += len(piece)
            taken += piece
        return taken

    def state_dict(self) -> dict[str, Any]:
        """seed, epoch, position and size, as JSON."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position, "size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken. Raises CheckpointError if the data has another size now."""
        if state["size"] != self.size:
            raise CheckpointError(
                f"the checkpoint was made with {state['size']} training prompts, and there are {self.size} now",
                next_step="resume with the same data, or start a new run",
            )
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]
        self._order = self._permutation()

    def _permutation(self) -> list[int]:
        order = list(range(self.size))
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        return order
