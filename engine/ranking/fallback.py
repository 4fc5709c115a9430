"""Somebody who answers where the one who was asked does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.ranking.base import Items, Ranker, Ticket, known
from engine.ranking.ranking import Ranking


@dataclass
class _Asked:
    items: Items
    question: str
    first: Ticket
    until: float
    then: Ticket | None = None


class FallbackRanker(Ranker):
    """Asks `ranker`; what it has not answered deadline_s seconds after it was asked, `fallback` is asked.

    Whoever answers first after that counts; the other is told that it need not. clock: seconds that never go back.
    """

    def __init__(
        self, ranker: Ranker, fallback: Ranker, deadline_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ranker, self.fallback, self.deadline_s, self.clock = ranker, fallback, deadline_s, clock
        self.poll_s = min(ranker.poll_s, fallback.poll_s)
        self.seconds_each = ranker.seconds_each
        self._asked: dict[Ticket, _Asked] = {}

    def ask(self, items: Items, *, question: str = "") -> Ticket:
        """Ask the first one."""
        ticket = str(len(self._asked))
        first = self.ranker.ask(items, question=question)
        self._asked[ticket] = _Asked(dict(items), question, first, self.clock() + self.deadline_s)
        return ticket

    def poll(self, ticket: Ticket) -> Ranking | None:
        asked = known(ticket, self._asked)
        answer = self.ranker.poll(asked.first)
        if answer is not None or self.clock() < asked.until:
            if answer is not None and asked.then is not None:
                self.fallback.withdraw(asked.then)
            return answer
        if asked.then is None:
            asked.then = self.fallback.ask(asked.items, question=asked.question)
        answer = self.fallback.poll(asked.then)
        if answer is not None:
            self.ranker.withdraw(asked.first)
        return answer

    def human_seconds(self, ticket: Ticket) -> float:
        asked = known(ticket, self._asked)
        then = 0.0 if asked.then is None else self.fallback.human_seconds(asked.then)
        return self.ranker.human_seconds(asked.first) + then

    def withdraw(self, ticket: Ticket) -> None:
        asked = known(ticket, self._asked)
        self.ranker.withdraw(asked.first)
        if asked.then is not None:
            self.fallback.withdraw(asked.then)

    def close(self) -> None:
        self.ranker.close()
        self.fallback.close()
