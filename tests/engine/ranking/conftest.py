"""Stores to test with: a SQLite file and, where one is installed, a PostgreSQL of the tests' own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from engine.ranking.tables import metadata


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL of the tests' own, where one is installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'trace-engine[postgres]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("runuser") is None:
        pytest.skip("there is no PostgreSQL here")
    folder, binaries = tmp_path_factory.mktemp("postgres"), found[-1].parent
    shutil.chown(folder, "postgres")
    for parent in folder.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    as_postgres = ["runuser", "-u", "postgres", "--"]
    subprocess.run([*as_postgres, binaries / "initdb", "-D", folder / "data", "-A", "trust"], check=True,
                   capture_output=True)  # fmt: skip
    control = [*as_postgres, binaries / "pg_ctl", "-D", folder / "data", "-w"]
    subprocess.run([*control, "-o", f"-c listen_addresses='' -k {folder}", "-l", folder / "log", "start"], check=True,
                   capture_output=True)  # fmt: skip
    yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new and empty store can be opened: a file, and a database by its URL."""
    if request.param == "sqlite":
        return str(tmp_path / "rankings.sqlite")
    url: str = request.getfixturevalue("postgres")
    engine = create_engine(url)
    metadata.drop_all(engine)
    engine.dispose()
    return url
