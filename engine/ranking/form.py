"""People as a ranker: what is asked goes into a store, from where a web form shows it to them."""

from __future__ import annotations

import atexit
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from engine.errors import EnvironmentMissing, InputError
from engine.ranking.aggregate import merged
from engine.ranking.base import Items, Ranker, Ticket, known
from engine.ranking.members import Members
from engine.ranking.question import MOST, Mode, Question, candidate_id
from engine.ranking.ranking import Id, Ranking
from engine.ranking.store import RankingStore
from engine.ranking.web.server import forget, running

START_S = 30.0
IDLE_S = 3600.0
ANSWER_S = 20.0
"""What an answer is taken to need before anybody has answered; measured afterwards."""

AWAY_S = 600.0
"""Nobody thinks about one question for longer: they have gone away."""

LOOK_S = 2.0
"""How often it is looked whether a server that another process started is still there."""


class FormRanker(Ranker):
    """Shows candidates to people in the browser, and waits for their ranking.

    where: the store, a file's path or a database's URL. mode, k: how they rank (see Question); k without a mode means
    the k best. A question of two is asked as a pair. votes: how many annotators rank each question; several are merged
    by Borda's count. annotators: for whom a link is printed when the form is started. settle_s: for how long an
    annotator can take an answer back before it is used. deadline_s: for how long an answer is of use, as annotators are
    told; how long to wait is said to `gather`. is_served: whether a server is started where none serves the
    store; it ends with this process, unless this is killed, and the next one then finds it. port: where it listens;
    None: 8765, or any where that is taken. tell: is told the links.

    The ticket is a hash of what is asked, so a process that was started again finds what was answered meanwhile, and
    nothing is asked twice. A server that dies while an answer is awaited is replaced, at the same address where `port`
    is given, so that open pages go on. Values that look the same are shown once, and are a tie. Raises InputError for
    more than nine different candidates; DataError, EnvironmentMissing for a store that cannot be opened.
    """

    poll_s = 0.3

    def __init__(
        self,
        where: str | Path,
        *,
        mode: Mode | None = None,
        k: int | None = None,
        votes: int = 1,
        annotators: Sequence[str] = ("annotator",),
        settle_s: float = 2.0,
        deadline_s: float | None = None,
        is_served: bool = True,
        port: int | None = None,
        tell: Callable[[str], Any] | None = None,
    ) -> None:
        self.where = str(where)
        self.mode, self.k, self.votes, self.settle_s, self.deadline_s = mode, k, votes, settle_s, deadline_s
        self.seconds_each = votes * ANSWER_S
        self.annotators, self.is_served, self.port = tuple(annotators), is_served, port
        self.tell = tell or Console(stderr=True, highlight=False, soft_wrap=True).print
        self._asked: dict[Ticket, dict[Id, list[Id]]] = {}  # ticket -> candidate id -> the asker's ids of it
        self._server: subprocess.Popen[bytes] | None = None
        self._url = ""  # where the server was last seen
        self._looked = -math.inf

    @cached_property
    def store(self) -> RankingStore:
        """Opened when it is first needed: a config that is only checked makes no file."""
        return RankingStore(self.where)

    def ask(self, items: Items, *, question: str = "") -> Ticket:
        """Put the question into the store; see that a server shows it."""
        same: dict[Id, list[Id]] = {}
        for one, value in items.items():
            same.setdefault(candidate_id(value), []).append(one)
        asked = self._question(question, list({candidate_id(value): value for value in items.values()}.values()))
        deadline = None if self.deadline_s is None else self.store.clock() + self.deadline_s
        ticket = self.store.put(asked, deadline=deadline)
        self._asked[ticket] = same
        if self.is_served:
            self._see_to_server()
        return ticket

    def poll(self, ticket: Ticket) -> Ranking | None:
        same = known(ticket, self._asked)
        votes = self.store.settled(ticket, for_s=self.settle_s)
        if votes is None and self.is_served:
            self._see_to_server()  # without one the answer would never come
        return None if votes is None else merged([vote.ranking for vote in votes]).renamed(same)

    def human_seconds(self, ticket: Ticket) -> float:
        """From the first sight to the answer, of all who answered; ten minutes at most for each."""
        known(ticket, self._asked)
        return math.fsum(min(vote.seconds, AWAY_S) for vote in self.store.votes(ticket))

    def withdraw(self, ticket: Ticket) -> None:
        """Show the question no longer; an answer that comes all the same is kept."""
        known(ticket, self._asked)
        self.store.withdraw(ticket)

    def close(self) -> None:
        """End the server that this ranker started."""
        if self._server is not None:
            atexit.unregister(self.close)
            self._server.terminate()
            try:
                self._server.wait(5)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if "store" in vars(self):
            self.store.close()

    def _question(self, prompt: str, candidates: list[Any]) -> Question:
        if len(candidates) > MOST:
            raise InputError(
                f"{len(candidates)} different candidates in one question to people",
                allowed=f"at most {MOST}: more cannot be ranked with care",
                next_step="show fewer, such as method.m=8",
            )
        k = None if self.k is None else min(self.k, len(candidates))
        mode = self.mode or ("pair" if len(candidates) == 2 else "full" if k in (None, len(candidates)) else "top")
        return Question(prompt, tuple(candidates), mode=mode, k=k if mode == "top" else None, votes=self.votes)

    def _see_to_server(self) -> None:
        """Find the server of this store or start one; print a link for each annotator, once for each address."""
        if self._server is not None:
            if self._server.poll() is None:
                return
            self.tell(f"the form's server has ended ({self._server.returncode})")
            forget(self.store, self._url, self._server.pid)  # a killed one did not
            self._server, self._looked = None, -math.inf
        if time.monotonic() - self._looked < LOOK_S:
            return
        url = running(self.store)
        if url is None:
            atexit.unregister(self.close)
            self._server = _started(self.store.where, self.port)
            atexit.register(self.close)
            url = _awaited(self.store, self._server)
        self._looked = time.monotonic()
        if url != self._url:
            self._url = url
            members = Members(self.store)
            for name in self.annotators:
                self.tell(f"{name} ranks at {url}/join/{members.invite(name)}")


def _started(where: str, port: int | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "engine.cli.main", "rank", "serve", where, "--quiet", "--idle", str(IDLE_S)]
    command += [] if port is None else ["--port", str(port)]
    # Of a session of its own, so that Ctrl-C in the terminal stops the trainer and not the form under an annotator; and
    # without the trainer's output, so that whoever reads that sees its end.
    none = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=none, stdout=none, stderr=none, start_new_session=True)


def _awaited(store: RankingStore, server: subprocess.Popen[bytes]) -> str:
    """The url, as soon as the server listens."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        if url := running(store):
            return url
        time.sleep(0.1)
    server.kill()
    raise EnvironmentMissing(
        f"the form's server did not start within {START_S:g} s (exit {server.poll()})",
        next_step=f"see what `engine rank serve {store.where}` says; its port may be taken",
    )
