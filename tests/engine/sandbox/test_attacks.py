"""Programs that try to get out, to forge, to exhaust or to poison; none may achieve anything.

An attack binds RESULT to what it could get. What it achieved is judged from outside (see conftest.World); `expect` says
how it has to end. Those with `control=True` are run without confinement too, where they must succeed.
"""

# ruff: noqa: E501
import os
import platform
import random
from dataclasses import dataclass

import pytest

from engine.sandbox import Outcome, Sandbox

FILES = "a secret was read"
TRY = '''
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.sys.maxsize and "x86" in MACHINE

def attempt(*tries):
    """What each attempt gave, or how it failed."""
    found = []
    for one in tries:
        try:
            found.append(("done", one()))
        except BaseException as error:
            found.append((type(error).__name__, str(error)))
    return found

def syscall(number, *args):
    """The system call, for better or worse."""
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def refused(*numbers_and_args):
    """The calls that did not fail with EPERM or ENOSYS."""
    passed = []
    for number, *args in numbers_and_args:
        try:
            passed.append((number, syscall(number, *args)))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                passed.append((number, errno.errorcode[error.errno]))
    return passed
'''


@dataclass(frozen=True)
class Attack:
    """A program, how it has to end ("done", or a fault's kind), and what RESULT has to be if it gets that far."""

    name: str
    source: str
    expect: str = "done"
    value: object = None  # compared where it is not None
    control: str = ""  # the harm that it does without confinement
    timeout_s: float = 5.0


def number(x86: int, arm: int) -> int:
    """The number of a system call on this machine."""
    return x86 if platform.machine() == "x86_64" else arm


ATTACKS = [
    # files and secrets
    Attack("read a secret", "RESULT = attempt(lambda: open(SECRET).read())", control=FILES),
    Attack(
        "read a secret by os.open", "RESULT = attempt(lambda: os.read(os.open(SECRET, os.O_RDONLY), 99))", control=FILES
    ),
    Attack(
        "read a secret by raw calls",
        f"""
def raw():
    fd = syscall({number(257, 56)}, -100, ctypes.c_char_p(SECRET.encode()), 0, 0)
    return os.read(fd, 99)
def newer():
    how = ctypes.create_string_buffer(24)
    return os.read(syscall(437, -100, ctypes.c_char_p(SECRET.encode()), how, 24), 99)
RESULT = attempt(raw, newer)""",
        control=FILES,
    ),
    Attack(
        "climb out of the scratch folder",
        """
RESULT = attempt(*[lambda n=n: open("../" * n + SECRET.lstrip("/")).read() for n in range(1, 9)])""",
        control=FILES,
    ),
    Attack(
        "read by a handle instead of a name",
        f"""
handle = ctypes.create_string_buffer(b"\\x80" + bytes(199))
RESULT = refused(({number(303, 264)}, -100, ctypes.c_char_p(SECRET.encode()), handle, ctypes.byref(ctypes.c_int()), 0),
                 ({number(304, 265)}, 0, handle, 0))""",
        value=[],
    ),
    Attack(
        "read the files of the machine",
        """
paths = "/etc/passwd /etc/shadow /etc/hostname /root/.bashrc /proc/cpuinfo /sys/kernel/uevent_seqnum /dev/kmsg".split()
RESULT = [path for path in paths if attempt(lambda: open(path).read())[0][0] == "done"]""",
        value=[],
    ),
    Attack(
        "read oneself and the parent through /proc",
        """
names = [f"/proc/{who}/{what}" for who in ("self", os.getppid(), HOST, 1) for what in ("environ", "maps", "mem", "cmdline")]
RESULT = [name for name in names if attempt(lambda: open(name, "rb").read(10))[0][0] == "done"]""",
        value=[],
    ),
    Attack(
        "look for the environment",
        "RESULT = dict(os.environ), attempt(lambda: os.getenvb(b'ENGINE_SANDBOX_TEST_SECRET'))",
    ),
    Attack(
        "list folders",
        """
RESULT = [path for path in ("/", FOLDER, "/root", "/home", "/etc", os.sys.prefix, "/proc", "..")
          if attempt(lambda: os.listdir(path))[0][0] == "done"]""",
        value=[],
    ),
    Attack(
        "write a file",
        "RESULT = attempt(lambda: open(OUTSIDE, 'w').write('x'))",
        control="a file was made or taken away",
    ),
    Attack(
        "change a file",
        "RESULT = attempt(lambda: open(SECRET, 'a').write('x'), lambda: os.truncate(SECRET, 0))",
        control="a file was changed",
    ),
    Attack(
        "take a file away",
        "RESULT = attempt(lambda: os.remove(SECRET), lambda: os.rename(SECRET, OUTSIDE))",
        control="a file was made or taken away",
    ),
    Attack(
        "change a file's mode, owner, times",
        """
RESULT = [x for x in attempt(lambda: os.chmod(SECRET, 0), lambda: os.chown(SECRET, 1, 1), lambda: os.utime(SECRET, (1, 1)),
          lambda: os.setxattr(SECRET, "user.a", b"b")) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "follow a symbolic link",
        """
def follow():
    link = os.path.join(os.getcwd(), "link")
    os.symlink(SECRET, link)
    return open(link).read()
RESULT = attempt(follow)""",
    ),
    Attack(
        "make a hard link",
        "RESULT = attempt(lambda: os.link(SECRET, OUTSIDE), lambda: os.link(SECRET, 'here'))",
        control="a file was made or taken away",
    ),
    Attack(
        "make devices and pipes",
        """
import stat
RESULT = [x for x in attempt(lambda: os.mkfifo("fifo"), lambda: os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
          lambda: os.mknod("mem", stat.S_IFBLK | 0o666, os.makedev(8, 0))) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "read open descriptors",
        """
def content(fd):
    return os.fstat(fd).st_size, os.pread(fd, 100, 0)
RESULT = [fd for fd in range(256) if fd > 3 and attempt(lambda: os.dup(fd))[0][0] == "done"]""",
        value=[],
    ),
    Attack(
        "read what the standard streams and the result are",
        """
RESULT = attempt(lambda: os.read(0, 1000)), attempt(lambda: os.read(3, 10)), attempt(lambda: os.pread(1, 10, 0))""",
    ),
    Attack(
        "hide a file in memory",
        f"""
RESULT = refused(({number(319, 279)}, ctypes.c_char_p(b"x"), 0), (447, 0))""",
        value=[],
    ),
    Attack(
        "fill the disk",
        """
import itertools
written = 0
def fill():
    global written
    for n in itertools.count():
        with open(f"/tmp/{n}", "wb", buffering=0) as file:
            written += file.write(bytes(2**20))
attempt(fill)
RESULT = written <= 16 * 2**20""",
        value=True,
    ),
    Attack(
        "use up all inodes",
        """
made = 0
def flood():
    global made
    while True:
        open(f"/tmp/{made}", "w").close()
        made += 1
attempt(flood)
RESULT = made <= 1024""",
        value=True,
    ),
    # network
    Attack(
        "connect by TCP",
        """
import socket
RESULT = attempt(lambda: socket.create_connection(("127.0.0.1", PORT), timeout=1))""",
        control="a socket was reached",
        expect="any",
    ),
    Attack(
        "connect by raw calls",
        f"""
import struct, socket
def connect():
    fd = syscall({number(41, 198)}, 2, 1, 0)
    address = struct.pack("<H", 2) + struct.pack(">H", PORT) + bytes([127, 0, 0, 1]) + bytes(8)
    return syscall({number(42, 203)}, fd, ctypes.c_char_p(address), 16)
RESULT = attempt(connect)""",
        control="a socket was reached",
    ),
    Attack(
        "connect to a socket in the file system",
        """
import socket
RESULT = attempt(lambda: socket.socket(socket.AF_UNIX).connect(PATH))""",
        control="a socket was reached",
    ),
    Attack(
        "connect to an abstract socket",
        """
import socket
RESULT = attempt(lambda: socket.socket(socket.AF_UNIX).connect("\\0" + ABSTRACT))""",
        control="a socket was reached",
    ),
    Attack(
        "any kind of socket",
        """
import socket
families = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, 40, 38, 29]
kinds = [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET]
found = [(f, k) for f in families for k in kinds if attempt(lambda: socket.socket(f, k))[0][0] == "done"]
RESULT = found + [x for x in attempt(socket.socketpair) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "ask for names",
        """
import socket
RESULT = [x for x in attempt(lambda: socket.getaddrinfo("localhost", 80), lambda: socket.gethostbyname("localhost"))
          if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "the calls of io_uring",
        "RESULT = refused((425, 8, ctypes.create_string_buffer(120)), (426, 0, 0, 0, 0, 0), (427, 0, 0, 0, 0))",
        value=[],
    ),
    # processes
    Attack(
        "fork bomb",
        """
forked = 0
for _ in range(1000):
    try:
        if os.fork() == 0:
            os._exit(0)
        forked += 1
    except OSError:
        pass
RESULT = forked""",
        value=0,
    ),
    Attack(
        "every way to fork",
        f"""
flags = 17
RESULT = refused(*[c for c in [({number(56, 220)}, flags, 0, 0, 0, 0), (435, ctypes.create_string_buffer(88), 88)]],
                 *([(57,), (58,)] if X86 else []))""",
        value=[],
    ),
    Attack(
        "run another program",
        """
import subprocess
RESULT = [x for x in attempt(lambda: os.execv("/bin/sh", ["sh", "-c", "true"]), lambda: os.system("true") == 0 or 1 / 0,
          lambda: subprocess.run(["/bin/true"]), lambda: os.posix_spawn("/bin/true", ["true"], {}),
          lambda: os.popen("true").read(), lambda: os.execv(os.sys.executable, ["python"])) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "execute from memory",
        f"RESULT = refused(({number(322, 281)}, 1, ctypes.c_char_p(b''), 0, 0, 0x1000), ({number(59, 221)}, ctypes.c_char_p(b'/bin/sh'), 0, 0))",
        value=[],
    ),
    Attack(
        "processes by multiprocessing",
        """
import multiprocessing
def start():
    process = multiprocessing.get_context("fork").Process(target=print)
    process.start()
    process.join()
RESULT = attempt(start)[0][0] == "done" """,
        value=False,
    ),
    Attack(
        "a thousand threads",
        """
import threading, time
started = 0
for _ in range(1000):
    try:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        started += 1
    except RuntimeError:
        pass
RESULT = started""",
        value=0,
    ),
    Attack(
        "an orphan daemon",
        """
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            import time
            time.sleep(2)
            open(OUTSIDE, "w").write("still here")
        os._exit(0)
RESULT = [x for x in attempt(daemon, os.setsid, lambda: os.setpgid(0, 0)) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "kill the parent",
        """
import signal
RESULT = [x for x in attempt(lambda: os.kill(os.getppid(), 9), lambda: os.kill(os.getppid(), 0),
          lambda: os.kill(1, 9)) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "kill everything",
        """
RESULT = [x for x in attempt(lambda: os.kill(-1, 9), lambda: os.killpg(0, 9), lambda: os.kill(0, 9)) if x[0] == "done"]""",
        value=[],
    ),
    Attack("kill another process", "RESULT = attempt(lambda: os.kill(VICTIM, 9))", control="a process was ended"),
    Attack(
        "signals by other calls",
        f"""
info = ctypes.create_string_buffer(128)
RESULT = refused(({number(234, 131)}, VICTIM, VICTIM, 9), ({number(200, 130)}, VICTIM, 9), ({number(129, 138)}, VICTIM, 9, info),
                 ({number(297, 240)}, VICTIM, VICTIM, 9, info), (434, VICTIM, 0), (424, 3, 9, 0, 0))""",
        value=[],
    ),
    Attack(
        "have the kernel signal another",
        """
import fcntl
RESULT = [x for x in attempt(lambda: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()), lambda: fcntl.fcntl(1, 10, 9),
          lambda: fcntl.fcntl(1, fcntl.F_SETFL, os.O_ASYNC), lambda: fcntl.ioctl(1, 0x8901, b"1234")) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "trace another process",
        f"""
RESULT = refused(({number(101, 117)}, 0, 0, 0, 0), ({number(101, 117)}, 16, os.getppid(), 0, 0),
    ({number(101, 117)}, 0x4206, VICTIM, 0, 0), ({number(310, 270)}, os.getppid(), 0, 0, 0, 0, 0),
    ({number(311, 271)}, os.getppid(), 0, 0, 0, 0, 0), ({number(312, 272)}, os.getppid(), os.getpid(), 0, 0, 0),
    (438, 3, 1, 0))""",
        value=[],
    ),
    # privileges
    Attack(
        "become root",
        """
RESULT = [x for x in attempt(lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0), lambda: os.setgroups([0]),
          lambda: os.seteuid(0)) if x[0] == "done"]""",
        value=[],
    ),
    Attack(
        "leave the confinement",
        f"""
RESULT = refused(({number(272, 97)}, 0x10000000), ({number(308, 268)}, 3, 0), ({number(161, 51)}, ctypes.c_char_p(b"/")),
    ({number(165, 40)}, 0, 0, 0, 0, 0), ({number(155, 41)}, 0, 0), ({number(166, 39)}, 0, 0), (428, 0, 0, 0), (442, 0, 0, 0, 0, 0),
    ({number(157, 167)}, 4, 1, 0, 0, 0), ({number(157, 167)}, 1, 0, 0, 0, 0), ({number(317, 277)}, 1, 0, 0), (444, 0, 0, 1),
    ({number(126, 91)}, 0, 0))""",
        value=[],
    ),
    Attack(
        "the calls where kernels break",
        f"""
RESULT = refused(({number(321, 280)}, 0, 0, 0), ({number(298, 241)}, 0, 0, -1, -1, 0), ({number(323, 282)}, 0),
    ({number(248, 217)}, 0, 0, 0, 0, 0), ({number(250, 219)}, 0, 0, 0, 0, 0), ({number(246, 104)}, 0, 0, 0, 0), ({number(175, 105)}, 0, 0, 0),
    ({number(278, 75)}, 1, 0, 0, 0), ({number(29, 194)}, 0, 4096, 0o1600), ({number(68, 186)}, 0, 0o1600), ({number(222, 107)}, 0, 0, 0),
    ({number(135, 92)}, 0x0040000), ({number(154, 0)}, 1, 0, 0) if X86 else (9999,), ({number(304, 265)}, 0, 0, 0))""",
        value=[],
    ),
    Attack(
        "numbers of another machine",
        """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid of 32 bit); int 0x80; ret
RESULT = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()""",
        expect="crash",
    ),
    Attack("numbers of x32", "RESULT = libc.syscall(ctypes.c_long(0x40000000 + 39))", expect="crash"),
    Attack(
        "raise the limits",
        """
import resource
RESULT = [x for x in attempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    lambda: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000)), lambda: resource.setrlimit(resource.RLIMIT_NPROC, (100, 100)),
    lambda: resource.prlimit(os.getppid(), resource.RLIMIT_AS, (1, 1))) if x[0] == "done"]""",
        value=[],
    ),
    # exhaustion
    Attack("a list without end", "x = [0]\nwhile True: x += x", expect="memory"),
    Attack("one huge object", "x = bytearray(10**12)", expect="memory"),
    Attack(
        "memory past the allocator",
        """
import mmap
kept = []
try:
    while True:
        kept.append(mmap.mmap(-1, 2**26))
        kept[-1][::4096] = bytes(2**14)
except (OSError, MemoryError):
    pass
RESULT = len(kept) * 64 < 512""",
        value=True,
    ),
    Attack(
        "memory kept by catching MemoryError",
        """
kept = []
while True:
    try:
        kept.append(bytearray(2**24))
    except MemoryError:
        pass""",
        expect="timeout",
        timeout_s=0.5,
    ),
    Attack("recursion", "def f(): return f()\nf()", expect="exception"),
    Attack(
        "recursion without a limit",
        """
import sys
sys.setrecursionlimit(10**9)
class A:
    def __repr__(self): return repr([self])
repr(A())""",
        expect="crash or memory or timeout",
        timeout_s=1.0,
    ),
    Attack("a source that breaks the parser", "RESULT = eval('-' * 10**6 + '1')", expect="any"),
    Attack("a null pointer", "ctypes.string_at(0)", expect="crash"),
    Attack("abort", "os.abort()", expect="crash"),
    Attack(
        "a regular expression that never ends",
        "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
        expect="timeout",
        timeout_s=0.2,
    ),
    Attack("a huge number", "x = 10 ** 10 ** 9", expect="timeout or memory", timeout_s=0.2),
    Attack("a number that no limit lets print", "RESULT = 7 ** 30000", value=7**30000),
    Attack(
        "an endless loop that ignores signals",
        """
import signal
for which in range(1, 65):
    try:
        signal.signal(which, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True: pass""",
        expect="timeout",
        timeout_s=0.2,
    ),
    Attack("stop instead of end", "os.kill(os.getpid(), 19)", expect="timeout", timeout_s=0.2),
    Attack("sleep", "import time\ntime.sleep(3600)", expect="timeout", timeout_s=0.2),
    Attack("print without end", "while True: print('x' * 1000)", expect="output"),
    Attack(
        "print without a newline to all streams",
        "while True: os.write(1, b'x' * 4096); os.write(2, b'y' * 4096)",
        expect="output",
    ),
    Attack("a huge result", "RESULT = 'x' * 10**8", expect="output"),
    Attack(
        "a small result that is huge when written out",
        """
RESULT = ['x' * 100]
for _ in range(40): RESULT = [RESULT, RESULT]""",
        expect="output",
    ),
    # forgery
    Attack(
        "a result beside the result",
        """
os.write(3, b"\\x93ENGV\\x06\\x00\\x00\\x00i\\x01\\x00\\x00\\x00\\x01")
RESULT = 2""",
        expect="protocol",
    ),
    Attack("noise in the result", "os.write(3, b'noise' * 10)\nRESULT = 2", expect="protocol"),
    Attack("noise without end in the result", "while True: os.write(3, b'noise' * 1000)", expect="output"),
    Attack("half a result", "os.write(3, b'\\x93ENGV\\x06\\x00\\x00')\nos._exit(0)", expect="protocol"),
    Attack(
        "a result of another type than it says",
        """
os.write(3, b"\\x93ENGV\\x0b\\x00\\x00\\x00S\\x01\\x00\\x00\\x00l\\x00\\x00\\x00\\x00\\x00")
os._exit(0)""",
        expect="protocol",
    ),
    Attack(
        "a failure with words of its own",
        """
import struct
def s(text): return b"s" + struct.pack("<I", len(text)) + text
payload = b"t" + struct.pack("<I", 4) + s(b"timeout") + s(b"\\x1b[2J") + s(b"x") + s(b"")
os.write(3, b"\\x93ENGE" + struct.pack("<I", len(payload)) + payload)
os._exit(0)""",
        expect="protocol",
    ),
    Attack(
        "keys that collide, to stop the host",
        """
import struct
def i(n):
    data = n.to_bytes(n.bit_length() // 8 + 1, "little")
    return b"i" + struct.pack("<I", len(data)) + data
count = 40000
payload = b"S" + struct.pack("<I", count) + b"".join(i(n * (2**61 - 1)) for n in range(1, count + 1))
os.write(3, b"\\x93ENGV" + struct.pack("<I", len(payload)) + payload)
os._exit(0)""",
        expect="protocol",
        timeout_s=10.0,
    ),
    Attack("a result printed", "print('\\x93ENGV\\x06\\x00\\x00\\x00i\\x01\\x00\\x00\\x00\\x01')\nRESULT = 5", value=5),
    Attack("no result", "os._exit(0)", expect="crash"),
    Attack(
        "an object that equals everything",
        """
class Same:
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __reduce__(self): return (os.system, ("touch " + OUTSIDE,))
RESULT = Same()""",
        expect="value",
    ),
    Attack(
        "such an object deep inside",
        """
class One(int):
    def __eq__(self, other): return True
RESULT = {"a": [(1, 2, One(3))]}""",
        expect="value",
    ),
    Attack(
        "subclasses of the built-in types",
        """
class D(dict):
    def items(self): return [("forged", 1)]
RESULT = D(real=2)""",
        expect="value",
    ),
    Attack("a list that holds itself", "RESULT = []\nRESULT.append(RESULT)", expect="value"),
    Attack(
        "an error whose text does not end",
        """
class E(Exception):
    def __str__(self):
        while True: pass
raise E""",
        expect="timeout",
        timeout_s=0.2,
    ),
    Attack("an error that steers the terminal", "raise ValueError('\\x1b]0;owned\\x07\\x1b[2J')", expect="exception"),
    Attack(
        "other functions in the runner",
        """
import builtins, sys
frame = sys._getframe()
while frame:
    frame.f_globals.update(encode=lambda *a: b"N", frame=lambda *a: b"x", _send=print)
    frame = frame.f_back
builtins.len = builtins.type = builtins.isinstance = lambda *a: 1
RESULT = 3""",
        expect="any",
    ),
]
ATTACKS = [
    a
    for a in ATTACKS
    if platform.machine() == "x86_64" or a.name not in ("numbers of another machine", "numbers of x32")
]

CANARY = """
import json, random, re, sys, math, os
random.seed(5)
RESULT = [1 + 1, len("abc"), type(3) is int, sorted({"b", "a"}), json.dumps([1]), random.randint(1, 10**9), math.pi,
          re.sub("a", "b", "aa"), sys.getrecursionlimit(), isinstance(2, int), os.environ.get("POISON"),
          __name__, sum(range(256)), "left" in sys.modules]
try:
    RESULT.append(os.listdir("/tmp"))
except OSError:
    RESULT.append([])
"""
UNTOUCHED = [
    2,
    3,
    True,
    ["a", "b"],
    "[1]",
    random.Random(5).randint(1, 10**9),
    3.141592653589793,
    "bb",
    1000,
    True,
    None,
    "__main__",
    32640,
    False,
    [],
]


def attacked(sandbox: Sandbox, attack: Attack, world: object) -> Outcome:
    source = world.fill(f"MACHINE = {platform.machine()!r}\n{TRY}\n{attack.source}")
    return sandbox.run(source, timeout_s=attack.timeout_s)


def ending(outcome: Outcome) -> str:
    return "done" if outcome.ok else outcome.error.kind


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_achieves_nothing(sandbox: Sandbox, attack: Attack, world, processes) -> None:
    before = processes(os.getpid())
    outcome = attacked(sandbox, attack, world)
    assert world.harms(outcome) == []
    assert len(processes(os.getpid())) <= len(before)
    if attack.expect != "any":
        assert ending(outcome) in attack.expect.split(" or "), outcome
    if attack.value is not None:
        assert outcome.value == attack.value
    assert "\x1b" not in str(outcome.error)
    assert sandbox.run(CANARY, timeout_s=10.0).value == UNTOUCHED


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.control], ids=lambda attack: attack.name.replace(" ", "-"))
def test_without_confinement_the_attack_would_succeed(unsafe: Sandbox, attack: Attack, world) -> None:
    assert attack.control in world.harms(attacked(unsafe, attack, world))


def test_there_are_enough_attacks() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 40
