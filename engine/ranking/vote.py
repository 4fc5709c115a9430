"""What is kept of one answer of one annotator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.ranking.ranking import Id, Ranking


@dataclass(frozen=True)
class Vote:
    """One annotator's answer to one question.

    question: its id, a hash of what is asked. ranking: over the ids of the question's candidates. shown: these ids
    in the order in which the annotator saw them, the first on top. at: when it came, in seconds since the epoch.
    seconds: how long it took from the first sight. is_late: it came when the question had all the answers that were
    wanted, so it counts in statistics alone. gold: the right ranking, where it is known. repeat: 0, or which further
    showing of the same question this is; `question` is then the id of the showing and `original` that of the first.
    prompt, candidates (id -> the text, or what stands for an image): what was shown.
    """

    question: str
    annotator: str
    ranking: Ranking
    shown: tuple[Id, ...]
    at: float
    seconds: float
    is_late: bool = False
    gold: Ranking | None = None
    repeat: int = 0
    original: str = ""
    prompt: str = ""
    candidates: dict[Id, Any] | None = None
