"""Rankings: what people, programs and recorded files say of candidates, in one form."""

from __future__ import annotations

from engine.ranking.base import Ranker, Ticket
from engine.ranking.judge import JudgeRanker
from engine.ranking.program import ProgramRanker
from engine.ranking.ranking import Ranking
from engine.ranking.recorded import RecordedRanker

__all__ = ["JudgeRanker", "ProgramRanker", "Ranker", "Ranking", "RecordedRanker", "Ticket"]
