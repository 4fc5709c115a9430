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

from engine.sandbox.inside.codec import BadBytes, encode
from engine.sandbox.inside.protocol import VALUE, parse_frame
from engine.sandbox.worker import Job, StartFailed, Worker

__all__ = ["check"]

_ATTEMPTS = '''
import os, socket

def attempts(secret, port, outside):
    """The names of the attempts that succeeded."""
    return [attempt.__name__ for attempt, argument in [
        (read_a_file, secret), (connect, port), (fork, None), (signal_the_parent, None), (write_a_file, outside)
    ] if succeeds(attempt, argument)]

def succeeds(attempt, argument):
    try:
        attempt(argument)
    except (OSError, RuntimeError):
        return False
    return True

def read_a_file(path):
    with open(path, "rb") as file:
        file.read()

def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=0.2).close()

def fork(_):
    if os.fork() == 0:
        os._exit(0)

def signal_the_parent(_):
    os.kill(os.getppid(), 0)

def write_a_file(path):
    with open(path, "w") as file:
        file.write("written from inside")
'''


def check(worker: Worker) -> None:
    """Raises `StartFailed` naming the attempts that succeeded, or why they could not be made."""
    with _targets() as (listener, secret, outside):
        args = (str(secret), listener.getsockname()[1], str(outside))
        job = encode((_ATTEMPTS, "attempts", args, {}), 2**20)
        answer = worker.run(Job(job, seconds=10.0, memory=512 * 2**20, output=2**16))
        try:
            what, found = parse_frame(answer.result)
        except BadBytes as error:
            raise StartFailed(f"its self-test gave no answer: {error}, wait status {answer.status}") from None
        if what != VALUE or type(found) is not list:
            raise StartFailed(f"its self-test failed: {found[1] if what != VALUE else found!r}")
        escaped = {str(name) for name in found}
        if outside.exists():
            escaped.add("write_a_file")
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            escaped.add("connect")
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
