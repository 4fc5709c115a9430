"""The standard library without files: the usual modules imported, the code of the rest kept in memory.

A child may open no file, so what is not here cannot be imported there: extension modules that are not listed below,
and anything of site-packages.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import marshal
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, ModuleType

__all__ = ["MemoryImporter", "preload"]

# fmt: off
USUAL = [
    "abc", "array", "bisect", "builtins", "calendar", "cmath", "codecs", "collections", "collections.abc", "contextlib",
    "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "gc", "hashlib", "heapq", "inspect",
    "io", "itertools", "json", "math", "numbers", "operator", "pprint", "random", "re", "statistics", "string",
    "struct", "textwrap", "time", "traceback", "types", "typing", "unicodedata", "uuid", "weakref",
]
EXTENSIONS = [
    "_asyncio", "_bisect", "_blake2", "_bz2", "_contextvars", "_csv", "_ctypes", "_datetime", "_decimal",
    "_elementtree", "_hashlib", "_heapq", "_json", "_lsprof", "_lzma", "_md5", "_multiprocessing", "_opcode",
    "_pickle", "_posixshmem", "_posixsubprocess", "_queue", "_random", "_sha1", "_sha2", "_sha256", "_sha3",
    "_sha512", "_socket", "_statistics", "_struct", "_typing", "_uuid", "_zoneinfo", "array", "binascii",
    "cmath", "fcntl", "grp", "math", "mmap", "pyexpat", "resource", "select", "termios", "unicodedata", "zlib",
]
# fmt: on
LEFT_OUT = {
    "__pycache__",
    "ensurepip",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}  # fmt: skip
_HEADER = struct.Struct("<4sIII")


def preload() -> None:
    """Import the usual modules and make all others come from memory; from then on no import reads a file."""
    for name in (*USUAL, *EXTENSIONS):
        with contextlib.suppress(ImportError):  # extension modules differ between versions and builds
            importlib.import_module(name)
    importer = MemoryImporter(os.path.dirname(os.__file__))
    sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, importer]
    sys.path[:], sys.path_hooks[:] = [], []
    sys.path_importer_cache.clear()
    gc.collect()
    gc.freeze()  # what never becomes garbage is not looked at again, so its pages stay shared


class MemoryImporter(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Finds and runs modules of one folder from what was read of it when this was made."""

    def __init__(self, folder: str) -> None:
        self.files = dict(_modules(folder, ""))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.files:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=self.files[name][0])

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The default."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        _, is_compiled, data = self.files[name]
        return marshal.loads(data) if is_compiled else compile(data, f"<{name}>", "exec", dont_inherit=True)


def _modules(folder: str, prefix: str) -> Iterator[tuple[str, tuple[bool, bool, bytes]]]:
    """Name, and whether it is a package, whether compiled, and the bytes, of each module under the folder."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in LEFT_OUT:
            continue
        if entry.name.endswith(".py"):
            is_package = entry.name == "__init__.py"
            name = prefix.rstrip(".") if is_package else prefix + entry.name[:-3]
            if name:
                with contextlib.suppress(OSError):
                    yield name, (is_package, *_code(entry))
        elif entry.is_dir() and entry.name.isidentifier():
            yield from _modules(entry.path, f"{prefix}{entry.name}.")


def _code(source: os.DirEntry[str]) -> tuple[bool, bytes]:
    """Compiled code if it is there and of this source, else the source."""
    stat = source.stat()
    with contextlib.suppress(OSError, struct.error):
        with open(importlib.util.cache_from_source(source.path), "rb") as file:
            data = file.read()
        magic, flags, changed, size = _HEADER.unpack_from(data)
        is_of_it = flags or (changed, size) == (int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
        if magic == importlib.util.MAGIC_NUMBER and is_of_it:
            return True, data[_HEADER.size :]
    with open(source.path, "rb") as file:
        return False, file.read()
