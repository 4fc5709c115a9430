"""The journal of a run: one SQLite file of JSON records, written as they happen."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.errors import DataError, InputError
from engine.jsonfiles import json_text

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (kind, key)
)
"""


class Journal:
    """Records by kind and key, in the order in which their keys were first put.

    A put that has returned survives a kill of the process. Several threads may share one Journal,
    and several processes one file. Raises InputError where the file cannot be opened or written,
    DataError where it is no journal.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = _connect_to_read(self.path) if read_only else _connect_to_write(self.path)

    def put(self, kind: str, key: str | int, record: Any) -> bool:
        """Write a record; True if it changed the journal.

        The same record again changes nothing; another record under the same kind and key takes the
        place, and keeps the position, of the first. Raises InputError for what JSON cannot hold.
        """
        text = json_text(record)
        with self.transaction():
            cursor = self._connection.execute(
                "INSERT INTO journal (kind, key, record) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, key) DO UPDATE SET record = excluded.record "
                "WHERE record != excluded.record",
                (kind, str(key), text),
            )
            return cursor.rowcount > 0

    def find(self, kind: str, key: str | int, default: Any = None) -> Any:
        """The record under kind and key, or the default."""
        rows = self._select("SELECT record FROM journal WHERE kind = ? AND key = ?", (kind, str(key)))
        return json.loads(rows[0][0]) if rows else default

    def rows(self, kind: str) -> list[Any]:
        """All records of a kind, in order."""
        return [record for _, record in self.items(kind)]

    def items(self, kind: str) -> list[tuple[str, Any]]:
        """All (key, record) of a kind, in order."""
        rows = self._select("SELECT key, record FROM journal WHERE kind = ? ORDER BY id", (kind,))
        return [(key, json.loads(text)) for key, text in rows]

    def drop(self, kind: str, key: str | int) -> bool:
        """Take a record out; True if there was one."""
        with self.transaction():
            cursor = self._connection.execute("DELETE FROM journal WHERE kind = ? AND key = ?", (kind, str(key)))
            return cursor.rowcount > 0

    def kinds(self) -> dict[str, int]:
        """How many records there are of each kind."""
        return dict(self._select("SELECT kind, COUNT(*) FROM journal GROUP BY kind ORDER BY MIN(id)", ()))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Puts and drops inside become visible, and durable, together or (on an exception) not at all."""
        with self._lock, _readable_errors(self.path):
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _select(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock, _readable_errors(self.path):
            return self._connection.execute(query, values).fetchall()


def _connect_to_write(path: Path) -> sqlite3.Connection:
    with _readable_errors(path):
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging; where the file system cannot share memory, SQLite's rollback journal."""
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError:
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing. A finished run may lie on a medium where WAL cannot be opened; elsewhere a
    reader that opens it would leave files beside the journal, which it may not remove."""
    if not path.is_file():
        raise DataError("there is no journal", place=str(path))
    with _readable_errors(path):
        ways = ("mode=ro&immutable=1", "mode=ro") if _is_closed(path) else ("mode=ro", "mode=ro&immutable=1")
        for options in ways:
            uri = f"{path.resolve().as_uri()}?{options}"
            connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("SELECT 1 FROM journal LIMIT 1")
                return connection
            except sqlite3.OperationalError:
                connection.close()
    raise DataError("the file is not a journal", place=str(path))


def _is_closed(path: Path) -> bool:
    """Whether nobody has the journal open: with write-ahead logging the last to close it removes the log."""
    try:
        with path.open("rb") as file:
            uses_wal = file.read(20)[18:] == b"\2\2"  # https://sqlite.org/fileformat.html, 1.3.3
    except OSError:  # SQLite will say why
        return False
    return uses_wal and not Path(f"{path}-wal").exists()


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """SQLite's own errors as ours, with the file's name."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot use the journal: {error}",
            place=str(path),
            next_step="choose a folder that you may write to, with space left, and that no other run holds",
        ) from None
    except sqlite3.ProgrammingError as error:
        raise InputError(f"cannot use the journal: {error}", place=str(path)) from None
    except sqlite3.DatabaseError as error:
        raise DataError(f"the file is not a journal: {error}", place=str(path)) from None
