"""Any ranker as a preference: it ranks a prompt's completions at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from engine.config import Config
from engine.ranking import Ranking
from rl.preferences.base import Contest, Preference, Verdict
from rl.preferences.judge import question_of
from rl.rankers import RankerConfig as AnyRankerConfig
from rl.rankers import check_fallback, with_fallback


class RankerConfig(Config):
    """`ranker`: a section of kind judge, form (people), recorded or file; or "path/to/file.py:name" alone.

    `deadline_s`: how long a batch waits for its rankings, null for ever. `on_absent`: what then becomes of one that is
    not there: `skip`, no verdict; `stop` ends the run, which goes on with --resume; `fallback` asks the section of that
    name too.
    """

    kind: Literal["ranker"] = "ranker"
    ranker: AnyRankerConfig
    deadline_s: float | None = Field(default=None, gt=0)
    on_absent: Literal["skip", "stop", "fallback"] = "skip"
    fallback: AnyRankerConfig | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        check_fallback(self)
        return self


class Ranked(Preference):
    """C_ij = 1, 1/2 or 0 by the ranking's tiers, the unranked below. Equal completions are shown once.

    One ranking is transitive; a preference with cycles comes of several rankers, or of several batches.
    """

    def __init__(self, config: Any, *, near: Path | None = None) -> None:
        super().__init__(config, near=near)
        self.ranker = with_fallback(config, k=None, near=near)

    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        shown = [list(dict.fromkeys(contest.texts)) for contest in contests]
        tickets = [
            self.ranker.ask({str(i): text for i, text in enumerate(texts)}, question=question_of(contest.prompt))
            for texts, contest in zip(shown, contests, strict=True)
        ]
        config = self.config
        rankings = self.ranker.gather(
            tickets,
            deadline_s=None if config.on_absent == "fallback" else config.deadline_s,
            on_absent="stop" if config.on_absent == "stop" else "skip",
            check=self.check,
        )
        for ticket, ranking in zip(tickets, rankings, strict=True):
            if ranking is None:
                self.ranker.withdraw(ticket)
        return [_verdicts(*row) for row in zip(contests, shown, rankings, strict=True)]

    def close(self) -> None:
        self.ranker.close()


def _verdicts(contest: Contest, texts: list[str], ranking: Ranking | None) -> list[Verdict]:
    if ranking is None or ranking.cannot_judge:
        reason = "no ranking came before the deadline" if ranking is None else ranking.note or "cannot be judged"
        return [Verdict(None, error=reason) for _ in contest.pairs]
    matrix = ranking.preferences([str(i) for i in range(len(texts))])
    place = {text: i for i, text in enumerate(texts)}
    return [Verdict(matrix[place[contest.texts[i]]][place[contest.texts[j]]]) for i, j in contest.pairs]
