"""The keeper of a server: it passes the exit code on, and leaves nothing behind when its owner is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl.policies._vllm import keeper

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def kept(*command: str) -> subprocess.Popen[str]:
    """The command under a keeper whose grace is short."""
    program = f"import sys; sys.path.insert(0, {str(Path(keeper.__file__).parent)!r}); import keeper; "
    program += "keeper.GRACE_S = 0.5; sys.exit(keeper.main(sys.argv[1:]))"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", program, *command], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    )


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_servers(program: str, code: int) -> None:
    with kept(sys.executable, "-c", program) as process:
        assert process.wait(30) == code


def test_when_the_owner_is_gone_the_whole_group_ends_even_a_stubborn_one() -> None:
    process = kept(sys.executable, "-c", STUBBORN)
    assert process.stdin is not None and process.stdout is not None
    grandchild = int(process.stdout.readline())
    process.stdin.close()  # as the kernel does for an owner that was killed
    assert process.wait(30) == -signal.SIGKILL
    end = time.monotonic() + 30
    while is_alive(grandchild):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.stdout.close()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, ProcessLookupError):
        return False
