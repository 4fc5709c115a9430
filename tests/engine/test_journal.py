"""Facts: puts are idempotent, ordered, atomic together, safe from threads, and survive SIGKILL."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from engine import journal as journal_module
from engine.errors import DataError, InputError
from engine.journal import Journal


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def test_records_come_back_in_the_order_of_their_keys(journal):
    for key in ("b", "a", 3):
        journal.put("evaluation", key, {"key": key})
    journal.put("graph", "b", [1, None, "é"])
    assert journal.items("evaluation") == [("b", {"key": "b"}), ("a", {"key": "a"}), ("3", {"key": 3})]
    assert journal.rows("graph") == [[1, None, "é"]]
    assert journal.rows("none") == []
    assert journal.kinds() == {"evaluation": 3, "graph": 1}


def test_putting_twice_is_putting_once(journal):
    assert journal.put("e", 1, {"x": 1})
    assert not journal.put("e", 1, {"x": 1})
    assert journal.rows("e") == [{"x": 1}]


def test_another_record_takes_the_place_of_the_first(journal):
    journal.put("e", 1, "old")
    journal.put("e", 2, "second")
    assert journal.put("e", 1, "new")
    assert journal.rows("e") == ["new", "second"]


def test_find_and_drop(journal):
    journal.put("e", 1, {"x": 1})
    assert journal.find("e", 1) == {"x": 1}
    assert journal.find("e", 2, default="none") == "none"
    assert journal.drop("e", 1)
    assert not journal.drop("e", 1)
    assert journal.find("e", 1) is None


def test_a_transaction_is_all_or_nothing(journal):
    with pytest.raises(ZeroDivisionError), journal.transaction():
        journal.put("e", 1, 1)
        with journal.transaction():
            journal.put("e", 2, 2)
        _ = 1 / 0
    assert journal.rows("e") == []
    with journal.transaction():
        journal.put("e", 3, 3)
    assert journal.rows("e") == [3]


def test_threads_share_a_journal(journal):
    def write(thread):
        for number in range(40):
            journal.put("e", f"{thread}-{number}", {"number": number})
            journal.put("same", number, number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(journal.rows("e")) == 240
    assert sorted(journal.rows("same")) == list(range(40))


def test_two_connections_see_each_others_records(tmp_path):
    with Journal(tmp_path / "j.sqlite") as one, Journal(tmp_path / "j.sqlite") as two:
        one.put("e", 1, 1)
        two.put("e", 2, 2)
        assert one.rows("e") == two.rows("e") == [1, 2]


def test_what_was_put_survives_a_kill_and_what_was_not_finished_does_not(tmp_path):
    path = tmp_path / "j.sqlite"
    code = f"""
import os, signal
from engine.journal import Journal
journal = Journal({str(path)!r})
for n in range(20):
    journal.put("e", n, n)
with journal.transaction():
    journal.put("e", 20, 20)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == -signal.SIGKILL
    with Journal(path) as journal:
        assert journal.rows("e") == list(range(20))
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_only_json_is_taken(journal):
    with pytest.raises(InputError, match="JSON cannot hold"):
        journal.put("e", 1, object())
    assert journal.rows("e") == []


def test_reading_writes_nothing_and_needs_a_journal(tmp_path):
    with pytest.raises(DataError, match="no journal"):
        Journal(tmp_path / "none.sqlite", read_only=True)
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put("e", 1, 1)
        with Journal(tmp_path / "j.sqlite", read_only=True) as beside:
            assert beside.rows("e") == [1]
            journal.put("e", 3, 3)
            assert beside.rows("e") == [1, 3]
    with Journal(tmp_path / "j.sqlite", read_only=True) as journal:
        assert journal.rows("e") == [1, 3]
        with pytest.raises(InputError, match="readonly"):
            journal.put("e", 2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["j.sqlite"]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_no_journal_is_named(tmp_path, read_only):
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"this is not a database, it is a sentence about one" * 50)
    with pytest.raises(DataError, match="not a journal"):
        Journal(path, read_only=read_only)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot use the journal") as error:
        Journal(tmp_path / "none" / "j.sqlite")
    assert "none" in str(error.value)


def test_a_closed_journal_says_so(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    journal.close()
    with pytest.raises(InputError, match="closed"):
        journal.put("e", 1, 1)


def test_without_write_ahead_logging_the_rollback_journal_serves(tmp_path, monkeypatch):
    class NoSharedMemory(sqlite3.Connection):
        def execute(self, query, *rest):
            if query == "PRAGMA journal_mode = WAL":
                raise sqlite3.OperationalError("locking protocol")
            return super().execute(query, *rest)

    connect = sqlite3.connect
    monkeypatch.setattr(
        journal_module.sqlite3, "connect", lambda *args, **options: connect(*args, factory=NoSharedMemory, **options)
    )
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put("e", 1, 1)
        assert journal.rows("e") == [1]
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
