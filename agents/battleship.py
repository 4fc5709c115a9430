"""Sink the ships of a hidden board: the policy that chooses each shot is code that may be improved.

play(boards()[0]) -> 0.4        The task is that of Trace (arXiv 2406.16218, section 4), on smaller boards.
"""

from __future__ import annotations

import random

from engine import Feedback, trace

SIZE, SHIPS, SHOTS = 6, (4, 3, 2), 18


@trace.node(trainable=True)
def choose(seen: list[str]) -> list[int]:
    """The next cell to shoot at, [row, column]; seen[row][column] is "." not shot yet, "o" water, "x" a hit."""
    for row, cells in enumerate(seen):
        for column, cell in enumerate(cells):
            if cell == ".":
                return [row, column]
    return [0, 0]


@trace.node
def shoot(hidden: list[str], seen: list[str], cell: list[int]) -> list[str]:
    """What is seen after a shot; "x" where a ship is hit, "o" where there is water."""
    row, column = cell
    if not (0 <= row < SIZE and 0 <= column < SIZE):
        raise ValueError(f"there is no cell {cell}: rows and columns go from 0 to {SIZE - 1}")
    if seen[row][column] != ".":
        raise ValueError(f"cell {cell} was shot at before")
    mark = "x" if hidden[row][column] == "#" else "o"
    return [line[:column] + mark + line[column + 1 :] if at == row else line for at, line in enumerate(seen)]


@trace.node
def share_hit(seen: list[str]) -> float:
    """How much of the ships was hit, from 0 to 1."""
    return sum(line.count("x") for line in seen) / sum(SHIPS)


def play(hidden: list[str]) -> float:
    """The share of the ships that is hit with 18 shots at 36 cells."""
    seen = ["." * SIZE] * SIZE
    for _ in range(SHOTS):
        seen = shoot(hidden, seen, choose(seen))
    return share_hit(seen)


def judge(hidden: list[str], output: float) -> Feedback:
    """The share as the score."""
    return Feedback(output, f"{output:.0%} of the ships were hit; after a hit the rest of the ship lies beside it")


def boards(count: int = 10, seed: int = 0) -> list[list[str]]:
    """Boards with ships of 4, 3 and 2 cells: "#" a ship, "." water; rows of text."""
    rng = random.Random(f"battleship/{seed}")
    return [_board(rng) for _ in range(count)]


def _board(rng: random.Random) -> list[str]:
    taken: set[tuple[int, int]] = set()
    for length in SHIPS:
        while True:
            row, column = rng.randrange(SIZE), rng.randrange(SIZE - length + 1)
            cells = {(row, column + i) for i in range(length)}
            if rng.random() < 0.5:
                cells = {(b, a) for a, b in cells}
            if not cells & taken:
                taken |= cells
                break
    return ["".join("#" if (row, column) in taken else "." for column in range(SIZE)) for row in range(SIZE)]
