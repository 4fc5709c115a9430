"""People who all submit at once, to a form whose server is killed again and again: is every answer there, how long
does one take, and how does that compare with bare commits?

    python benchmarks/ranking_form.py [--annotators 8] [--answers 500] [--kills 5]

Each annotator is a thread with a session of its own: it loads the page, saves a draft and sends the answer, and sends
the same form again until it is acknowledged. Beside it, in the same process, the same number of single inserts, each
a commit that is synced to the disk.
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from engine.ranking.members import Members
from engine.ranking.question import Question
from engine.ranking.store import RankingStore
from engine.ranking.web.guard import COOKIE

PLACES = {"place_A": "2", "place_B": "1", "place_C": "3"}
PATIENCE_S = 60.0


class Server:
    """The form's server as a process, which can be killed and started again at the same port."""

    def __init__(self, where: Path) -> None:
        self.where = where
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "engine.cli.main", "rank", "serve", str(self.where), "--quiet"]
        self.process = subprocess.Popen([*command, "--port", str(self.port), "--rate", "100000"])
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Visitor:
    """One annotator's browser: a connection, made anew when it breaks, and what was acknowledged.

    `acknowledged`: the ids of the questions; `seconds`: how long an answer took that was sent once.
    """

    port: int
    secret: str
    acknowledged: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    resent: int = 0

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and text of one request. Raises OSError or HTTPException where the server is away."""
        headers = {"Cookie": f"{COOKIE}={self.secret}"}
        if fields is not None:
            headers |= {
                "Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/x-www-form-urlencoded",
            }  # fmt: skip
        try:
            body = None if fields is None else urlencode(fields)
            self.connection.request("GET" if fields is None else "POST", path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def until_there(self, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
        """As `ask`, again and again while the server is away."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.ask(path, fields)
            except (OSError, http.client.HTTPException):
                self.resent += fields is not None
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def answer_one(self) -> bool:
        """Rank what lies before the annotator; False where nothing does."""
        _, text = self.until_there("/")
        fields = dict(re.findall(r'name="(csrf|item|form_id)" value="([\w-]+)"', text))
        if "item" not in fields:
            return False
        fields |= PLACES
        self.until_there("/draft", fields)
        before, started = self.resent, time.perf_counter()
        status, text = self.until_there("/answer", fields | {"action": "submit"})
        if status != 303:
            raise RuntimeError(f"{status}: {text[:500]}")
        if self.resent == before:
            self.seconds.append(time.perf_counter() - started)
        self.acknowledged.append(fields["item"])
        return True


def work(visitor: Visitor, answers: int) -> None:
    while len(visitor.acknowledged) < answers and visitor.answer_one():
        pass


def fill(store: RankingStore, annotators: int, answers: int) -> None:
    """As many questions as give every annotator so many, each to be answered by all of them."""
    for number in range(answers):
        candidates = tuple(f"{word} {number}" for word in ("first", "second", "third"))
        store.put(Question(f"question {number}", candidates, votes=annotators))


def driven(where: Path, annotators: int, answers: int, kills: int) -> tuple[list[Visitor], float]:
    """Everybody answers everything while the server is killed; the visitors, and how many seconds it took."""
    with RankingStore(where) as store:
        fill(store, annotators, answers)
        members = Members(store)
        secrets = [members.sign_in(members.invite(f"annotator {i}")) for i in range(annotators)]
    server = Server(where)
    visitors = [Visitor(server.port, secret[1]) for secret in secrets if secret is not None]
    threads = [threading.Thread(target=work, args=(visitor, answers)) for visitor in visitors]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    total, done = annotators * answers, 0
    for kill in range(1, kills + 1):
        while done < total * kill / (kills + 1) and any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
            done = sum(len(visitor.acknowledged) for visitor in visitors)
        server.kill()
        server.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    server.kill()
    return visitors, seconds


def check(where: Path, visitors: list[Visitor], annotators: int) -> None:
    """Fails where an acknowledged answer is not there once, or a question has more answers than were wanted."""
    with RankingStore(where) as store:
        votes = store.votes()
    kept = Counter((vote.annotator, vote.question) for vote in votes)
    sent = {(f"annotator {i}", item) for i, visitor in enumerate(visitors) for item in visitor.acknowledged}
    assert set(kept) == sent and set(kept.values()) <= {1}, "an acknowledged answer is missing, or is there twice"
    counted = Counter(vote.question for vote in votes if not vote.is_late)
    assert max(counted.values()) <= annotators, "a question has more answers than were wanted"


def bare(where: Path, count: int) -> list[float]:
    """Seconds of so many inserts into a fresh database, one synced commit each."""
    connection = sqlite3.connect(where, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE answers (id INTEGER PRIMARY KEY, ranking TEXT)")
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        connection.execute("INSERT INTO answers (ranking) VALUES (?)", ("x" * 300,))
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    return statistics.median(seconds) * 1000, statistics.quantiles(seconds, n=100)[98] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("annotators", 8), ("answers", 500), ("kills", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "rankings.sqlite"
        visitors, seconds = driven(where, given.annotators, given.answers, given.kills)
        check(where, visitors, given.annotators)
        inserts = bare(Path(folder) / "bare.sqlite", given.annotators * given.answers)
    sent = [one for visitor in visitors for one in visitor.seconds]
    acknowledged = sum(len(visitor.acknowledged) for visitor in visitors)
    resent = sum(visitor.resent for visitor in visitors)
    print(f"{acknowledged} answers acknowledged, each kept once; {given.kills} kills; {resent} requests sent again")
    print(f"{acknowledged / seconds:.0f} answers a second, each with its page and its draft")
    for name, each in (("an answer", sent), ("a bare synced insert", inserts)):
        print("{:24} p50 {:7.2f} ms   p99 {:7.2f} ms".format(name, *quantiles(each)))
    print(f"ratio of the medians: {statistics.median(sent) / statistics.median(inserts):.1f}")


if __name__ == "__main__":
    main()
