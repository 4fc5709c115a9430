"""One task cannot reach the next: not by files, memory, settings or what it leaves running."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.sandbox import Sandbox

ROOT = Path(__file__).parents[3]

POISON = """
import builtins, ctypes, gc, os, random, resource, signal, sys, json, math
random.seed(1)
builtins.len = lambda x: 99
math.pi = 3
json.dumps = lambda *a, **k: "poison"
sys.modules["left"] = sys
sys.setrecursionlimit(50)
os.environ["POISON"] = "1"
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 30))
resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
ctypes.memset(id(256) + 24, 7, 1)  # the number 256, which all of the interpreter shares
for name in ("/tmp/poison", "poison"):
    try:
        open(name, "w").write("x")
    except OSError:
        pass
RESULT = None
"""
HEALTHY = """
import json, math, os, random, resource, signal, sys
RESULT = {
    "len": len("ab"), "pi": math.pi, "json": json.dumps([1]), "module": "left" in sys.modules, "int": sum([250, 6]),
    "recursion": sys.getrecursionlimit(), "environment": dict(os.environ), "mask": len(signal.pthread_sigmask(0, [])),
    "alarm": signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, "files": resource.getrlimit(resource.RLIMIT_NOFILE),
}
try:
    RESULT["scratch"] = os.listdir("/tmp")
except OSError:
    RESULT["scratch"] = []
"""


def test_a_task_does_not_poison_the_next(sandbox: Sandbox) -> None:
    before = sandbox.run(HEALTHY).value
    assert before["pi"] == pytest.approx(3.14159265)
    assert (before["len"], before["int"], before["scratch"], before["mask"]) == (2, 256, [], 0)
    sandbox.run(POISON)
    assert sandbox.run(HEALTHY).value == before


SEARCH = """
import ctypes, gc
libc = ctypes.CDLL(None)
def search(first, second):
    \"\"\"How often the two parts lie behind one another in memory; given apart, so that they do not as arguments.\"\"\"
    found, places = 0, sorted({id(o) >> 20 for o in gc.get_objects()} | {id(str(n) * 9) >> 20 for n in range(999)})
    for page in [page for place in places for page in range(place << 20, (place + 1) << 20, 4096) if is_mapped(page)]:
        text = ctypes.string_at(page, 4096)
        at = text.find(first)
        while at >= 0:
            found += text[at + len(first) : at + len(first) + len(second)] == second
            at = text.find(first, at + 1)
    return found
def is_mapped(page):
    return libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(4096), ctypes.create_string_buffer(1)) == 0
"""


def test_a_task_does_not_find_the_last_one_in_memory(sandbox: Sandbox) -> None:
    """The source, the arguments and the printed text of one task, sought by the next in all the memory it can find."""
    tokens = [os.urandom(8).hex() for _ in range(2)]
    source = f"secret = '{tokens[0]}'\ndef f(x):\n    print(x)\n    return [x] * 1000"
    assert sandbox.call(source, "f", (tokens[1],)).ok
    for token in tokens:
        parts = (token[:8].encode(), token[8:].encode())
        assert sandbox.call(f"{SEARCH}\nkept = '{token}'", "search", parts, timeout_s=30.0).value > 0
        assert sandbox.call(SEARCH, "search", parts, timeout_s=30.0).value == 0


@pytest.mark.parametrize("during", ["a job", "rest"])
def test_a_killed_parent_leaves_no_process(sandbox: Sandbox, during: str, processes) -> None:
    """Even where a fork of the parent lives on and holds copies of its descriptors."""
    program = "import time\ntime.sleep(60)" if during == "a job" else "RESULT = 1"
    host = f"""
import os, sys, threading, time
from engine.sandbox import Sandbox
sandbox = Sandbox(tier={sandbox.tier!r}, workers=1)
sandbox.run("RESULT = 1")
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
threading.Thread(target=lambda: (sandbox.run({program!r}, timeout_s=50.0), time.sleep(60))).start()
time.sleep(0.3)
print("ready", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", host], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        stems = processes(parent.pid)
        forked = {pid for pid in stems if name_of(pid) == name_of(parent.pid)}
        sandboxed = stems - forked
        assert len(forked) == 1
        assert len(sandboxed) >= (2 if during == "a job" else 1)
        parent.kill()
        parent.wait()
        end = time.monotonic() + 20
        while (left := {pid for pid in sandboxed if is_running(pid)}) and time.monotonic() < end:
            time.sleep(0.02)
        for pid in forked:
            os.kill(pid, 9)
    assert not left


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
