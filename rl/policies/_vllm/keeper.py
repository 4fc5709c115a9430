"""Runs a server, and ends it with its whole process group when the owner is gone, however the owner ended.

    python keeper.py COMMAND ...       the owner holds the other end of the standard input

Needs nothing but the standard library: it is started as a file.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

POLL_S = 0.5
GRACE_S = 10.0


def main(command: list[str]) -> int:
    """The server's exit code; 128 + n where signal n ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner asks by closing the pipe
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while server.poll() is None:
        ready, _, _ = select.select([0], [], [], POLL_S)
        if ready and not os.read(0, 1):
            end(server)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def end(server: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and then end whatever is left of the group; this process too, which leads it."""
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
