"""Rankings: what people, programs and recorded files say of candidates, in one form.

The form for people wants the packages of the extra `web`, which are loaded with its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from engine.media import Media
from engine.ranking.base import Ranker, Ticket
from engine.ranking.content import Code, Text
from engine.ranking.fallback import FallbackRanker
from engine.ranking.judge import JudgeRanker
from engine.ranking.program import ProgramRanker
from engine.ranking.ranking import Ranking
from engine.ranking.recorded import RecordedRanker

if TYPE_CHECKING:
    from engine.ranking.form import FormRanker
    from engine.ranking.store import RankingStore

__all__ = [
    "Code",
    "FallbackRanker",
    "FormRanker",
    "JudgeRanker",
    "Media",
    "ProgramRanker",
    "Ranker",
    "Ranking",
    "RankingStore",
    "RecordedRanker",
    "Text",
    "Ticket",
]

_LATER = {"FormRanker": "engine.ranking.form", "RankingStore": "engine.ranking.store"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'engine.ranking' has no attribute '{name}'")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
