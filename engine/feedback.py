"""What a program gets back: a score, a sentence, or both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import InputError

Score = float | Mapping[str, float]


@dataclass(frozen=True)
class Feedback:
    """A judgement of one output.

    `score`: higher is better; a mapping holds several objectives. `text`: what a person would
    say about the output, read by optimizers that can read. At least one of the two is given.
    """

    score: Score | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.score is None and not self.text:
            raise InputError(
                "feedback has neither a score nor a text",
                allowed="a number, a sentence, or Feedback(score=..., text=...)",
            )
        for value in self.score.values() if isinstance(self.score, Mapping) else (self.score,):
            if value is not None and not math.isfinite(value):
                raise InputError(f"feedback score is {value}", allowed="finite numbers")

    @property
    def scalar(self) -> float | None:
        """The score as one number: several objectives count as their mean; None without a score."""
        if isinstance(self.score, Mapping):
            return sum(self.score.values()) / len(self.score)
        return self.score

    def to_json(self) -> dict[str, Any]:
        score = dict(self.score) if isinstance(self.score, Mapping) else self.score
        return {"score": score, "text": self.text}


def as_feedback(value: object) -> Feedback:
    """The Feedback that a user's feedback function meant: float, bool, str, mapping or Feedback."""
    if isinstance(value, Feedback):
        return value
    if isinstance(value, bool | int | float):
        return Feedback(score=float(value))
    if isinstance(value, str):
        return Feedback(text=value)
    if isinstance(value, Mapping) and value and all(isinstance(v, bool | int | float) for v in value.values()):
        return Feedback(score={str(k): float(v) for k, v in value.items()})
    raise InputError(
        f"feedback returned {type(value).__name__}: {value!r:.80}",
        allowed="a number, a sentence, a mapping of objective to number, or Feedback(score=, text=)",
        next_step="return one of these from the feedback function",
    )
