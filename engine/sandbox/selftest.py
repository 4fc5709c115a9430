"""Five attempts to escape, made once for each tier and process before any program of others is run.

The attempts are made in a child as all others, and judged from outside where that is possible.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.sandbox.inside.codec import encode
from engine.sandbox.job import Job
from engine.sandbox.runner import Runner, StartFailed

__all__ = ["check"]

_ATTEMPTS = """
def attempts(secret, port, outside):
    made = {
        "read a file": lambda: read(secret),
        "open a socket": lambda: connect(port),
        "fork": fork,
        "signal the parent": signal_the_parent,
        "write a file": lambda: write(outside),
    }
    return [name for name in made if succeeds(made[name])]

def succeeds(attempt):
    try:
        attempt()
    except Exception:
        return False
    return True

def read(path):
    with open(path) as file:
        file.read()

def connect(port):
    import socket
    socket.create_connection(("127.0.0.1", port), timeout=0.2).close()

def fork():
    import os
    if os.fork() == 0:
        os._exit(0)

def signal_the_parent():
    import os
    os.kill(os.getppid(), 0)

def write(path):
    with open(path, "w") as file:
        file.write("written from inside")
"""


def check(worker: Runner) -> None:
    """Raises `StartFailed` naming the attempts that succeeded, or why they could not be made."""
    with _targets() as (listener, secret, outside):
        args = (str(secret), listener.getsockname()[1], str(outside))
        job = encode((_ATTEMPTS, "attempts", args, {}), 2**20)
        outcome = worker.run(Job(job, seconds=10.0, memory=512 * 2**20, output=2**16))
        if outcome.error is not None or type(outcome.value) is not list:
            why = outcome.error.text if outcome.error else repr(outcome.value)
            raise StartFailed(f"its self-test gave no answer: {why}")
        escaped = {str(name) for name in outcome.value}
        if outside.exists():
            escaped.add("write a file")
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            escaped.add("open a socket")
    if escaped:
        raise StartFailed(f"its self-test escaped: {', '.join(sorted(escaped))}")


@contextlib.contextmanager
def _targets() -> Iterator[tuple[socket.socket, Path, Path]]:
    """A listener, a file with a secret, and a place where a file could be made, open to all users of this machine."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        os.chmod(folder, 0o777)
        secret, outside = Path(folder, "secret"), Path(folder, "outside")
        secret.write_text(secrets.token_hex())
        secret.chmod(0o644)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener, secret, outside
