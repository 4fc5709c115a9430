"""What every ranker is: something that is shown candidates now, and answers now or later."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from engine.errors import EngineError, UnknownName
from engine.ranking.ranking import Id, Ranking

Ticket = str
"""Names one question that was asked."""

Items = Mapping[Id, Any]
"""id -> the candidate, as it is shown: a text, say. Ids are for the machine and are not shown."""

T = TypeVar("T")


class Ranker(ABC):
    """Ranks candidates: a form for people, a model, a program, a recorded file.

    `ask` gives a ticket at once; the answer is there when `poll` finds it. `poll_s`: seconds between two looks of
    `gather`. Safe to use from one thread at a time.
    """

    poll_s: float = 0.2

    @abstractmethod
    def ask(self, items: Items, *, question: str = "") -> Ticket:
        """Show the candidates and what they answer; they are ranked under the ids that they have here."""

    @abstractmethod
    def poll(self, ticket: Ticket) -> Ranking | None:
        """The answer, or None while there is none. Raises UnknownName for a ticket of another ranker."""

    def gather(
        self,
        tickets: Sequence[Ticket],
        *,
        deadline_s: float | None = None,
        on_absent: Literal["none", "raise"] = "none",
    ) -> list[Ranking | None]:
        """The answers, in the order of the tickets; waits until they are there.

        deadline_s: seconds to wait at most. on_absent: what an answer that is not there by then becomes: None, or
        an EngineError.
        """
        end = None if deadline_s is None else time.monotonic() + deadline_s
        wanted, answers = list(dict.fromkeys(tickets)), {}  # type: list[Ticket], dict[Ticket, Ranking]
        while True:
            waiting = [ticket for ticket in wanted if ticket not in answers]
            answers |= {t: answer for t in waiting if (answer := self.poll(t)) is not None}
            if len(answers) == len(wanted) or (end is not None and time.monotonic() >= end):
                break
            time.sleep(self.poll_s if end is None else max(0.0, min(self.poll_s, end - time.monotonic())))
        if on_absent == "raise" and len(answers) < len(wanted):
            raise EngineError(
                f"{len(wanted) - len(answers)} of {len(wanted)} rankings were not there after {deadline_s} s",
                next_step="give a longer deadline, or on_absent='none'",
            )
        return [answers.get(ticket) for ticket in tickets]


def known(ticket: Ticket, asked: Mapping[Ticket, T]) -> T:
    """What is kept of a question. Raises UnknownName for a ticket that is not among those asked."""
    if ticket not in asked:
        raise UnknownName("ticket", ticket, asked)
    return asked[ticket]
