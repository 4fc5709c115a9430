"""Any ranker as a preference: it ranks a prompt's completions at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from engine import gallery
from engine.config import Config
from engine.errors import ConfigError
from engine.ranking import Ranker, Ranking
from rl.preferences.base import Contest, Preference, Verdict
from rl.preferences.judge import question_of


class RankerConfig(Config):
    """`ranker`: "path/to/file.py:name", an engine.ranking.Ranker.

    `deadline_s`: how long a batch waits for its rankings, null for ever; one that is absent then is no verdict.
    """

    kind: Literal["ranker"] = "ranker"
    ranker: str
    deadline_s: float | None = Field(default=None, gt=0)


class Ranked(Preference):
    """C_ij = 1, 1/2 or 0 by the ranking's tiers, the unranked below. Equal completions are shown once.

    One ranking is transitive; a preference with cycles comes of several rankers, or of several batches.
    """

    def __init__(self, config: Any, *, near: Path | None = None) -> None:
        super().__init__(config, near=near)
        loaded = gallery.load(config.ranker, near=near)
        if not isinstance(loaded, Ranker):
            raise ConfigError(f"{config.ranker} is a {type(loaded).__name__}", allowed="an engine.ranking.Ranker")
        self.ranker = loaded

    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        shown = [list(dict.fromkeys(contest.texts)) for contest in contests]
        tickets = [
            self.ranker.ask({str(i): text for i, text in enumerate(texts)}, question=question_of(contest.prompt))
            for texts, contest in zip(shown, contests, strict=True)
        ]
        rankings = self.ranker.gather(tickets, deadline_s=self.config.deadline_s)
        return [_verdicts(*row) for row in zip(contests, shown, rankings, strict=True)]


def _verdicts(contest: Contest, texts: list[str], ranking: Ranking | None) -> list[Verdict]:
    if ranking is None or ranking.cannot_judge:
        reason = "no ranking came before the deadline" if ranking is None else ranking.note or "cannot be judged"
        return [Verdict(None, error=reason) for _ in contest.pairs]
    matrix = ranking.preferences([str(i) for i in range(len(texts))])
    place = {text: i for i, text in enumerate(texts)}
    return [Verdict(matrix[place[contest.texts[i]]][place[contest.texts[j]]]) for i, j in contest.pairs]
