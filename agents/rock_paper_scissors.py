"""A preference that no scalar reward explains: rock beats scissors beats paper beats rock.

beats("...", " rock\n", "scissors") -> 1.0        beats("...", "rock", "lava") -> 1.0
"""

from __future__ import annotations

BEATS = {"rock": "scissors", "scissors": "paper", "paper": "rock"}


def hand(completion: str) -> str:
    """The first line without space around it, in small letters."""
    return completion.strip().partition("\n")[0].strip().lower()


def beats(prompt: object, first: str, second: str) -> float:
    """1 if the first hand wins, 0 if the second does, 1/2 for a tie. What is none of the three loses to each."""
    one, other = hand(first), hand(second)
    if one == other or (one not in BEATS and other not in BEATS):
        return 0.5
    return float(other not in BEATS or BEATS.get(one) == other)
