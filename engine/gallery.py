"""Agents and configs found by reference: the user's own first, then the ones that came with the engine.

The ready-made ones travel as data of this package (`engine/gallery_data`), never as import packages:
the import name `agents` belongs to somebody else. In a checkout they are its top-level folders.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Literal

from engine.errors import EngineError, InputError, UnknownName

Kind = Literal["agents", "configs"]
SUFFIXES: dict[Kind, str] = {"agents": ".py", "configs": ".yaml"}

__all__ = ["SUFFIXES", "Kind", "find", "folder", "load", "names"]


def folder(kind: Kind) -> Path:
    """The folder of ready-made agents or configs: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "gallery_data" / kind
    return installed if installed.is_dir() else package.parent / kind


def names(kind: Kind) -> list[str]:
    """The ready-made ones as references, sorted: 'agents/judge.py', 'configs/grpo.yaml'."""
    files = folder(kind).glob(f"*{SUFFIXES[kind]}")
    return sorted(f"{kind}/{file.name}" for file in files if not file.name.startswith("_"))


def find(reference: str | Path, *, kind: Kind = "agents", near: Path | None = None) -> Path:
    """The file that a reference means.

    It is looked up beside `near` (a config file, or a folder), then in the working folder, then in the
    gallery; 'agents/judge.py', 'judge.py' and 'judge' mean the same there. Raises UnknownName with the
    nearest name.
    """
    path = Path(reference).expanduser()
    for place in _places(near):
        for candidate in _spellings(path, kind):
            if os.path.isfile(place / candidate):
                return (place / candidate).resolve()
    return in_gallery(path, kind)


def in_gallery(reference: Path, kind: Kind) -> Path:
    """The gallery's own file of that reference; never one outside of it. Raises UnknownName."""
    root = folder(kind).resolve()
    for candidate in _spellings(reference, kind):
        if not os.path.isfile(root.parent / candidate):
            continue
        path = (root.parent / candidate).resolve()
        if path.is_relative_to(root):
            return path
    raise UnknownName(kind.removesuffix("s"), str(reference), names(kind))


def load(reference: str, *, near: Path | None = None) -> object:
    """The object that 'agents/judge.py:judge' means; the file is run once, under a private module name.

    Raises UnknownName (file or name), InputError (not FILE:NAME, or a file that does not run).
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise InputError(
            f"'{reference}' is not FILE:NAME", allowed="the path of a Python file, a colon and a name in it",
            next_step="for example agents/judge.py:judge",
        )  # fmt: skip
    module = _module(find(file, near=near))
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if _is_own(module, key, value)]
        raise UnknownName("function or object", name, public, place=str(module.__file__))
    return getattr(module, name)


def _places(near: Path | None) -> Iterator[Path]:
    if near is not None:
        yield near if near.is_dir() else near.parent
    yield Path.cwd()


def _spellings(path: Path, kind: Kind) -> Iterator[Path]:
    """The paths that a reference may mean: itself, with the suffix, and in the kind's folder."""
    if not path.name:
        return
    yield path
    suffixed = path if path.suffix == SUFFIXES[kind] else path.with_name(path.name + SUFFIXES[kind])
    yield suffixed
    if len(path.parts) == 1:
        yield Path(kind) / suffixed


def _module(path: Path) -> ModuleType:
    """The file as a module, from memory when it is unchanged since it was last run."""
    stat = path.stat()
    key = hashlib.sha256(f"{path}|{stat.st_mtime_ns}|{stat.st_size}".encode()).hexdigest()[:12]
    name = f"_engine_gallery_{path.stem}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file", allowed="a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickling and inspect look the module up by its name
    try:
        spec.loader.exec_module(module)
    except EngineError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise InputError(
            f"the file does not run: {type(error).__name__}: {error}", place=_fault_line(path, error),
            next_step="correct the file, or the reference to it",
        ) from error  # fmt: skip
    return module


def _fault_line(path: Path, error: Exception) -> str:
    """'FILE:LINE' of the last line of the file that was running when the error came."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _is_own(module: ModuleType, key: str, value: object) -> bool:
    """Whether a user would mean this name of the module: public, and not something it imported."""
    return not key.startswith("_") and getattr(value, "__module__", module.__name__) == module.__name__
