"""JSON on disk that survives a kill: whole files are replaced at once, JSON lines are appended.

A line is written with its newline in one call and flushed; a kill inside it leaves a torn last line,
which readers skip and the next writer cuts off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from engine.errors import DataError, InputError

Row = dict[str, Any]


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Data as strict JSON text. Raises InputError for what JSON cannot hold.

    Tuples and sets become lists, dataclasses mappings, NumPy and torch scalars numbers, paths
    strings; a number that is not finite becomes the string "NaN", "Infinity" or "-Infinity",
    because bare NaN is no JSON and makes a whole file unreadable for other programs.
    """
    try:
        return _dumped(data, indent)
    except (ValueError, TypeError):
        pass
    try:
        return _dumped(_finite(data), indent)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"a record that JSON cannot hold: {error}",
            allowed="None, booleans, numbers, strings, lists and mappings with string keys",
        ) from None


def write_text(path: Path | str, text: str) -> None:
    """Replace the file by the text at once: a reader sees the old or the new file, never a half."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(part, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise unwritable(path, error) from None
    _sync_folder(path.parent)


def write_json(path: Path | str, data: Any) -> None:
    """Replace the file by the data as indented JSON, at once. Raises InputError."""
    write_text(path, json_text(data, indent=2) + "\n")


@contextlib.contextmanager
def locked(path: Path | str, *, timeout_s: float = 60.0) -> Iterator[None]:
    """Hold the lock file between processes. SQLite's lock: it works on every platform and dies with its process.

    Raises InputError where the file cannot be made, or is held by another process for longer than the timeout.
    """
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise InputError(
            f"cannot lock: {error}",
            place=str(path),
            next_step="choose a folder that you may write to, or wait for the other process",
        ) from None
    try:
        yield
    finally:
        connection.close()


def read_json(path: Path | str) -> Any:
    """The data of a JSON file. Raises DataError naming file, line and column."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", place=str(path)) from None
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg}", place=f"{path}:{error.lineno}:{error.colno}") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text", place=str(path)) from None


def read_lines(path: Path | str) -> list[Row]:
    """The rows of a JSON-lines file, [] where there is no file; a torn last line is left out.

    Raises DataError naming file and line for any other line that is not a JSON object.
    """
    return [row for _, row in numbered_lines(path)]


def numbered_lines(path: Path | str) -> list[tuple[int, Row]]:
    """As `read_lines`, each row with the number of its line; blank lines are counted and left out."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", place=str(path)) from None
    # what follows the last newline is a line whose writer was killed, or nothing
    return [(number, _row(line, f"{path}:{number}")) for number, line in enumerate(lines[:-1], 1) if line.strip()]


class JsonLines:
    """A JSON-lines file open for appending. Safe to use from several threads."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._file = self._open()

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and flush it. Raises InputError for what JSON cannot hold."""
        line = (json_text(row) + "\n").encode()
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise unwritable(self.path, error) from None

    def keep(self, is_kept: Callable[[Row], bool]) -> int:
        """Drop the rows that is_kept refuses, at once; returns how many were dropped."""
        with self._lock:
            rows = read_lines(self.path)
            kept = [row for row in rows if is_kept(row)]
            if len(kept) < len(rows):
                self._file.close()
                write_text(self.path, "".join(json_text(row) + "\n" for row in kept))
                self._file = self._open()
            return len(rows) - len(kept)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _open(self) -> IO[bytes]:
        """The file, positioned behind its last whole line."""
        try:
            file = open(self.path, "ab+")  # noqa: SIM115 - stays open as long as the object
            file.truncate(_whole_lines(file))
            return file
        except OSError as error:
            raise unwritable(self.path, error) from None


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a place that cannot be written."""
    return InputError(
        f"cannot write: {error.strerror or error}",
        place=str(path),
        next_step="choose a folder that you may write to, with space left",
    )


def _whole_lines(file: IO[bytes], block: int = 1 << 16) -> int:
    """The length of the file up to and including its last newline; reads backwards."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _row(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", place=place) from None
    if not isinstance(row, dict):
        raise DataError(f"a {type(row).__name__} instead of an object", place=place)
    return row


def _dumped(data: Any, indent: int | None) -> str:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent, default=_plain)
    # a lone surrogate, which UTF-8 cannot hold, becomes \udxxx: that is its JSON escape
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: Any) -> Any:
    """json's fallback for values that are not JSON themselves but have one JSON meaning."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r:.80}")


def _finite(value: Any) -> Any:
    """The same data with non-finite numbers spelled out."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return _finite(_plain(value))


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the platform lets a folder be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
