"""The database behind a ranking store: one SQLite file, or PostgreSQL by its URL."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from engine.errors import DataError, EnvironmentMissing, InputError
from engine.ranking.tables import metadata

BUSY_MS = 30_000
_LOCK = 0x72616E6B  # the name of the lock under which PostgreSQL writes


class Database:
    """Opens the tables, and makes them where they are not there.

    where: a file's path, or a URL such as postgresql+psycopg://user@host/name. SQLite writes ahead (WAL) where the
    file system can, and syncs at every commit, so that what was acknowledged survives a loss of power. Writers come
    one after the other. Safe to use from several threads and processes. Raises DataError for a file that is no such
    database, InputError for a URL that cannot be read, EnvironmentMissing for a database that cannot be reached.
    """

    def __init__(self, where: str | Path) -> None:
        self.where = str(where)
        self.is_sqlite = "://" not in self.where or self.where.startswith("sqlite")
        # SQLite's own wait for a writer sleeps up to 0.1 s at a time: threads of one process take turns here instead.
        self._turn = threading.Lock()
        self.engine = self._opened()

    def _opened(self) -> Engine:
        try:
            engine = _sqlite(self.where) if self.is_sqlite else create_engine(make_url(self.where), pool_pre_ping=True)
        except ArgumentError as error:
            raise InputError(f"no database URL: {error}", allowed="a path, or postgresql+psycopg://...") from None
        try:
            with engine.begin() as connection:
                metadata.create_all(connection)
        except OperationalError as error:
            engine.dispose()
            kind = DataError if self.is_sqlite else EnvironmentMissing
            raise kind(f"the ranking store cannot be opened: {error.orig}", place=_named(self.where)) from None
        except DBAPIError as error:
            engine.dispose()
            raise DataError(f"no ranking store: {error.orig}", place=_named(self.where)) from None
        return engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer runs beside; durable when it ends, undone if it raises."""
        with self._turn, self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def _sqlite(where: str) -> Engine:
    path = where.removeprefix("sqlite:///")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # what people said, and who they are, is not for all
    except FileExistsError:
        pass  # and is not opened: closing a file drops the locks that SQLite has on it in this process
    except OSError as error:
        raise DataError(f"cannot open the ranking store: {error.strerror}", place=path) from None
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver thinks
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    if cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":  # such as on a network's file system
        cursor.execute("PRAGMA journal_mode=DELETE")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _named(where: str) -> str:
    """The path, or the URL without its password."""
    return make_url(where).render_as_string(hide_password=True) if "://" in where else where
