"""What a program gets back: a score, a sentence, or both."""

from __future__ import annotations

import math
import numbers
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
        if self.score is not None:
            object.__setattr__(self, "score", _checked(self.score))

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
    """The Feedback that a user's feedback function meant: number, bool, str, mapping or Feedback.

    Scalars of numpy and torch are numbers. Raises InputError for anything else.
    """
    if isinstance(value, Feedback):
        return value
    if isinstance(value, str):
        return Feedback(text=value)
    if isinstance(value, Mapping) or _number(value) is not None:
        return Feedback(score=value)  # type: ignore[arg-type]  # checked there
    raise InputError(
        f"feedback returned {type(value).__name__}: {value!r:.80}",
        allowed="a number, a sentence, a mapping of objective to number, or Feedback(score=, text=)",
        next_step="return one of these from the feedback function",
    )


def _checked(score: object) -> Score:
    """The score as a float, or as a mapping of its own. Raises InputError."""
    if not isinstance(score, Mapping):
        return _finite(score)
    if not score:
        raise InputError("feedback score is an empty mapping", allowed="a mapping of objective to number")
    return {str(name): _finite(value) for name, value in score.items()}


def _finite(value: object) -> float:
    number = _number(value)
    if number is None or not math.isfinite(number):
        raise InputError(f"feedback score is {value!r:.80}", allowed="finite numbers")
    return number


def _number(value: object) -> float | None:
    """A Python, numpy or torch scalar as a float; None for what is no number."""
    if not isinstance(value, numbers.Real) and hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError, TypeError):  # an array of several elements
            return None
    return float(value) if isinstance(value, numbers.Real) else None
