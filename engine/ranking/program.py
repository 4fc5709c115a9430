"""A program as a ranker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.errors import InputError
from engine.ranking.base import Items, Ranker, Ticket, known
from engine.ranking.ranking import Id, Ranking

Answer = Ranking | Mapping[Id, float | None]


class ProgramRanker(Ranker):
    """Ranks by a function of (items, question): a Ranking of their ids, or a score for each id, higher is better."""

    def __init__(self, function: Callable[[Items, str], Answer]) -> None:
        self.function = function
        self._answers: dict[Ticket, Ranking] = {}

    def ask(self, items: Items, *, question: str = "") -> Ticket:
        """Rank now. Raises InputError where the answer does not name exactly the ids that were shown."""
        answer = self.function(dict(items), question)
        ranking = Ranking.by_score(answer) if isinstance(answer, Mapping) else answer
        if not isinstance(ranking, Ranking) or set(ranking.ids) != set(items):
            raise InputError(
                f"the ranking program answered {answer!r:.120}",
                allowed=f"a Ranking, or a score for each of the ids {', '.join(map(str, items))}",
            )
        ticket = str(len(self._answers))
        self._answers[ticket] = ranking
        return ticket

    def poll(self, ticket: Ticket) -> Ranking | None:
        return known(ticket, self._answers)
