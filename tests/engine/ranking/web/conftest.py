"""The form as people meet it: a server of its own process, Chromium, and the store behind them."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.ranking.desk import LETTERS
from engine.ranking.members import Members
from engine.ranking.question import Question
from engine.ranking.store import RankingStore
from engine.ranking.vote import Vote
from engine.ranking.web.guard import COOKIE

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SERVE = "import sys; from engine.cli.main import main; sys.exit(main(sys.argv[1:]))"
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
_NAMES = (f"annotator {number}" for number in itertools.count(1))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """A store and the form's server over it, which is a process of its own."""

    where: Path
    lease_s: float = 600.0
    rate: float = 1000.0
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.store = RankingStore(self.where)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, "rank", "serve", str(self.where), "--quiet", f"--port={self.port}"]
        command += [f"--lease={self.lease_s}", f"--rate={self.rate}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self.stop()}")

    def stop(self) -> str:
        """Ends the server; what it printed."""
        if self.process is None:
            return ""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=15)
        self.process = None
        return said

    def close(self) -> None:
        said = self.stop()
        self.store.close()
        assert said == ""

    def ask(self, *candidates: Any, prompt: str = "Which reads best?", **more: Any) -> str:
        """Puts a question; its id. The prompt is made one of its own, as the same question would have its answers."""
        self.asked.append(self.store.put(Question(f"{prompt} ({len(self.asked) + 1})", candidates, **more)))
        return self.asked[-1]

    def clear(self) -> None:
        for question in self.asked:
            self.store.withdraw(question)

    def link(self, name: str) -> str:
        return f"{self.url}/join/{Members(self.store).invite(name)}"

    def session(self, name: str) -> str:
        """The secret of a session of a new annotator."""
        members = Members(self.store)
        signed_in = members.sign_in(members.invite(name))
        assert signed_in is not None
        return signed_in[1]

    def vote(self, question: str) -> Vote:
        """The one vote on the question."""
        [vote] = self.store.votes(question)
        return vote


def told(vote: Vote) -> list[list[str]]:
    """The tiers of a vote, as the texts of its candidates."""
    assert vote.candidates is not None
    return [sorted(vote.candidates[one] for one in tier) for tier in vote.ranking.tiers]


def seen(vote: Vote) -> list[str]:
    """The texts of the candidates as the annotator saw them: A, B, C."""
    assert vote.candidates is not None
    return [vote.candidates[one] for one in vote.shown]


def by_letter(vote: Vote) -> str:
    """The ranking in the letters that the annotator saw, such as B>AC|D: B best, A and C tied, D not ranked."""
    letter = dict(zip(vote.shown, LETTERS, strict=False))
    tiers = ["".join(sorted(letter[one] for one in tier)) for tier in vote.ranking.tiers]
    rest = "".join(sorted(letter[one] for one in vote.ranking.unranked))
    return ">".join(tiers) + (f"|{rest}" if rest else "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site") / "ranking.sqlite")
    made.start()
    yield made
    made.close()


@pytest.fixture
def ask(site: Site) -> Iterator[Callable[..., str]]:
    """Asks questions that are withdrawn after the test."""
    yield site.ask
    site.clear()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A server of the test's own, to stop and start."""
    made: list[Site] = []

    def start(**more: Any) -> Site:
        made.append(Site(tmp_path / f"{len(made)}.sqlite", **more))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for a module: playwright keeps an event loop running, and other modules want one of theirs."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no Chromium: apt install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@dataclass
class Visits:
    """Opens pages for new annotators, and listens to what the browser complains of."""

    browser: Any
    site: Site
    complaints: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)
    expected: str = "^$"

    def __call__(self, *, site: Site | None = None, name: str | None = None, **options: Any) -> Any:
        """The form's page before a new annotator."""
        context = self.browser.new_context(**{**DESKTOP, "reduced_motion": "reduce", **options})
        self.contexts.append(context)
        context.set_default_timeout(8000)
        page = context.new_page()
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self._hear("error", str(error)))
        page.on("dialog", lambda dialog: self._hear("error", f"a dialog says {dialog.message}"))
        site = site or self.site
        context.add_cookies([{"name": COOKIE, "value": site.session(name or next(_NAMES)), "url": site.url}])
        page.goto(site.url)
        return page

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def expect(self, pattern: str) -> None:
        """Complaints that belong to the test."""
        self.expected = pattern


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Visits]:
    """Opens the form for a new annotator; at the end the browser must have had nothing to complain of, such as a
    violation of the content security policy."""
    visits = Visits(browser, site)
    yield visits
    for context in visits.contexts:
        context.close()
    assert [text for text in visits.complaints if not re.search(visits.expected, text)] == []
