"""What every ranker is: something that is shown candidates now, and answers now or later."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from engine.errors import Stopped, UnknownName
from engine.ranking.ranking import Id, Ranking

Ticket = str
"""Names one question that was asked."""

Items = Mapping[Id, Any]
"""id -> the candidate, as it is shown: a text, say. Ids are for the machine and are not shown."""

OnAbsent = Literal["wait", "stop", "skip"]
"""What becomes of an answer that is not there at the deadline."""

T = TypeVar("T")


class Ranker(ABC):
    """Ranks candidates: a form for people, a model, a program, a recorded file.

    `ask` gives a ticket at once; the answer is there when `poll` finds it. `poll_s`: seconds between two looks of
    `gather`. Safe to use from one thread at a time.
    """

    poll_s: float = 0.2
    seconds_each: float = 0.0
    """What one answer takes of people's time, as far as it is known beforehand; nothing of a program's."""

    @abstractmethod
    def ask(self, items: Items, *, question: str = "") -> Ticket:
        """Show the candidates and what they answer; they are ranked under the ids that they have here."""

    @abstractmethod
    def poll(self, ticket: Ticket) -> Ranking | None:
        """The answer, or None while there is none. Raises UnknownName for a ticket of another ranker."""

    def human_seconds(self, ticket: Ticket) -> float:
        """The time of people that went into the answer; none where a program answers."""
        return 0.0

    def withdraw(self, ticket: Ticket) -> None:  # noqa: B027 - most rankers have nothing to do here
        """The answer is of no use any more; whoever would give it need not."""

    def close(self) -> None:  # noqa: B027 - most rankers hold nothing
        """Let go of what the ranker holds, such as a server that it started; nothing is asked after that."""

    def gather(
        self,
        tickets: Sequence[Ticket],
        *,
        deadline_s: float | None = None,
        on_absent: OnAbsent = "skip",
        check: Callable[[], None] = lambda: None,
    ) -> list[Ranking | None]:
        """The answers, in the order of the tickets; waits until they are there.

        deadline_s: after so many seconds answers that are not there are absent. on_absent: what then happens: `skip`
        gives None for them, `stop` raises Stopped, `wait` goes on waiting. For somebody else who answers then, see
        FallbackRanker. check: called at every look; what it raises ends the wait.
        """
        end = math.inf if deadline_s is None or on_absent == "wait" else time.monotonic() + deadline_s
        wanted, answers = list(dict.fromkeys(tickets)), {}  # type: list[Ticket], dict[Ticket, Ranking]
        while True:
            waiting = [ticket for ticket in wanted if ticket not in answers]
            answers |= {t: answer for t in waiting if (answer := self.poll(t)) is not None}
            if len(answers) == len(wanted) or time.monotonic() >= end:
                break
            check()
            time.sleep(max(0.0, min(self.poll_s, end - time.monotonic())))
        if on_absent == "stop" and len(answers) < len(wanted):
            raise Stopped(
                f"{len(wanted) - len(answers)} of {len(wanted)} rankings were not there after {deadline_s} s",
                next_step="go on when there is somebody to answer, or give a longer deadline, or on_absent='skip'",
            )
        return [answers.get(ticket) for ticket in tickets]


def known(ticket: Ticket, asked: Mapping[Ticket, T]) -> T:
    """What is kept of a question. Raises UnknownName for a ticket that is not among those asked."""
    if ticket not in asked:
        raise UnknownName("ticket", ticket, asked)
    return asked[ticket]
