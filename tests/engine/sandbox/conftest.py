"""A world that programs are let loose on: secrets to read, files to spoil, sockets to reach, a process to end.

Whether a program did harm is judged from outside of the sandbox, by looking at that world.
"""

import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import SandboxUnavailable
from engine.sandbox import Outcome, Sandbox

CONFINED = ("namespaces", "process")


class World:
    """What an attack may try to reach, and what became of it."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text(self.token)
        self.outside = folder / "outside"
        self.path = str(folder / "socket")
        self.abstract = f"engine-sandbox-{self.token[:8]}"
        self.listeners = [self._listener(socket.AF_INET, ("127.0.0.1", 0)), self._listener(socket.AF_UNIX, self.path)]
        self.port = self.listeners[0].getsockname()[1]
        self.listeners.append(self._listener(socket.AF_UNIX, f"\0{self.abstract}"))
        self.victim = subprocess.Popen(["sleep", "600"])
        os.environ["ENGINE_SANDBOX_TEST_SECRET"] = self.token

    @staticmethod
    def _listener(family: int, address: object) -> socket.socket:
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        return listener

    def fill(self, source: str) -> str:
        """The attack with the places of this world in it."""
        known = {
            "SECRET": self.secret, "OUTSIDE": self.outside, "FOLDER": self.folder, "PATH": self.path,
            "ABSTRACT": self.abstract,
        }  # fmt: skip
        numbers = {"PORT": self.port, "VICTIM": self.victim.pid, "HOST": os.getpid()}
        lines = [f"{name} = {str(value)!r}" for name, value in known.items()]
        lines += [f"{name} = {value}" for name, value in numbers.items()]
        return "\n".join([*lines, source])

    def harms(self, outcome: Outcome) -> list[str]:
        """What an attack achieved."""
        found = []
        if self.token in repr(outcome):
            found.append("a secret was read")
        if sorted(self.folder.iterdir()) != sorted([self.secret, Path(self.path)]):
            found.append("a file was made or taken away")
        elif self.secret.read_text() != self.token or self.secret.stat().st_nlink != 1:
            found.append("a file was changed")
        for listener in self.listeners:
            try:
                listener.accept()[0].close()
                found.append("a socket was reached")
            except BlockingIOError:
                pass
        if self.victim.poll() is not None:
            found.append("a process was ended")
        return found

    def close(self) -> None:
        os.environ.pop("ENGINE_SANDBOX_TEST_SECRET", None)
        for listener in self.listeners:
            listener.close()
        self.victim.kill()
        self.victim.wait()


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh world, open to every user of the machine, so that only the sandbox protects it."""
    with tempfile.TemporaryDirectory(prefix="world-") as folder:  # short: the path of a socket has 107 bytes at most
        os.chmod(folder, 0o777)
        found = World(Path(folder))
        yield found
        found.close()


def opened(tier: str) -> Sandbox:
    """A sandbox of the tier, or the test is skipped with the reason why it is not to be had."""
    sandbox = Sandbox(tier=tier, workers=1)
    try:
        assert sandbox.tier == tier
    except SandboxUnavailable as error:
        pytest.skip(f"tier '{tier}' is not to be had here: {error.message}")
    return sandbox


@pytest.fixture(scope="session", params=CONFINED)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """The sandbox of each confining tier in turn."""
    found = opened(request.param)
    yield found
    found.close()


@pytest.fixture(scope="session")
def unsafe() -> Iterator[Sandbox]:
    """No confinement: where an attack must succeed, or it would prove nothing."""
    with Sandbox(tier="unsafe", workers=1) as found:
        yield found


def descendants(pid: int) -> set[int]:
    """The processes that stem from a process."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = set(), [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found.update(new)
        waiting += new
    return found


@pytest.fixture
def processes() -> object:
    """The function `descendants`."""
    return descendants
