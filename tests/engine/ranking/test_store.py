"""Facts of a ranking store: questions by content, media by their bytes, databases that are none, other processes."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import DataError, InputError, UnknownName
from engine.ranking import Media, Ranking, RankingStore
from engine.ranking.desk import Desk
from engine.ranking.members import Members
from engine.ranking.question import Question, candidate_id

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


@pytest.fixture
def store(tmp_path):
    with RankingStore(tmp_path / "rankings.sqlite") as store:
        yield store


def test_a_question_is_named_by_what_it_asks_in_every_process():
    one = Question("q", ("a", "b", "b"), votes=3)
    assert one.id == Question("q", ("b", "a")).id and len(one.shown) == 2
    program = "from engine.ranking.question import Question; print(Question('q', ('b', 'a')).id)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == one.id
    others = [Question("p", ("a", "b")), Question("q", ("a", "c")), Question("q", ("a", "b"), mode="best"),
              Question("q", ("a", "b"), repeat=1)]  # fmt: skip
    assert len({one.id, *(other.id for other in others)}) == 5
    assert others[-1].original == one.id


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Question("q", ("a", "a")), "1 different candidates"),
        (lambda: Question("q", tuple("abcdefghij")), "10 different candidates"),
        (lambda: Question("q", ("a", "b", "c"), mode="pair"), "allowed: two"),
        (lambda: Question("q", ("a", "b"), mode="top"), "k is None"),
        (lambda: Question("q", ("a", "b"), mode="top", k=3), "k is 3"),
        (lambda: Question("q", ("a", "b"), mode="worst"), "full, top, pair, best"),
        (lambda: Question("q", ("a", "b"), votes=0), "votes is 0"),
        (lambda: Question("q", ("a", "b"), gold=Ranking([["a"], ["b"]])), "candidate_id"),
        (lambda: Question("q", ("a", "b" * 100_001)), "100001 characters"),
        (lambda: Media(b"<svg onload=alert(1)>"), "SVG is not shown"),
        (lambda: Media(PNG + bytes(8 << 20)), "at most 8388608"),
    ],
)
def test_what_cannot_be_asked_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_media_are_kept_once_by_their_content(store, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    picture = Media(tmp_path / "a.png", alt="a cat")
    sound = Media(b"RIFF....WAVEfmt ")
    assert (picture.mime, sound.mime, picture.data) == ("image/png", "audio/wav", PNG)
    assert candidate_id(picture) == candidate_id(Media(PNG, alt="a cat"))
    store.put(Question("one", (picture, sound)))
    store.put(Question("two", (picture, "text")))
    assert store.blob(picture.sha256) == ("image/png", PNG)
    assert store.blob("0" * 64) is None
    with pytest.raises(DataError, match=r"nothing\.png"):
        Media(tmp_path / "nothing.png")


def test_putting_again_keeps_answers_and_more_votes_ask_further(store):
    desk, members = Desk(store), Members(store)
    ann, bob = (members.sign_in(members.invite(name))[0] for name in ("ann", "bob"))
    asked = store.put(Question("q", ("a", "b")))
    ids = [one for one, _ in desk.next(ann).candidates.values()]
    desk.submit(ann, asked, "form", Ranking([ids]))
    assert store.put(Question("q", ("b", "a"))) == asked
    assert len(store.settled(asked)) == 1 and desk.next(bob) is None
    store.put(Question("q", ("a", "b"), votes=2))
    assert store.settled(asked) is None
    assert desk.next(bob).question == asked and desk.next(ann) is None
    with pytest.raises(UnknownName, match="question"):
        store.settled("nothing")


def test_gold_and_further_showings_come_with_the_votes(store):
    desk, members = Desk(store), Members(store)
    ann = members.sign_in(members.invite("ann"))[0]
    a, b = candidate_id("a"), candidate_id("b")
    gold = Ranking([[a], [b]])
    for repeat in (0, 1):
        store.put(Question("q", ("a", "b"), gold=gold, repeat=repeat))
    for number in range(2):
        desk.submit(ann, desk.next(ann).question, f"form {number}", gold)
    first, second = store.votes()
    assert (first.gold, first.repeat, second.repeat) == (gold, 0, 1)
    assert second.original == first.question != second.question
    assert first.candidates == {a: "a", b: "b"} and first.prompt == "q"


def test_links_are_kept_as_hashes_and_end_when_they_are_revoked(store, tmp_path):
    members = Members(store)
    first, second = members.invite("ann"), members.invite("ann")
    who, secret = members.sign_in(first)
    assert members.sign_in(second)[0] == who == members.signed_in(secret)
    store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(one.encode() in kept for one in (first, second, secret))
    members.revoke("ann")
    assert members.sign_in(first) is None and members.signed_in(secret) is None
    with pytest.raises(UnknownName, match="bob"):
        members.revoke("bob")
    for name in ("", " ", "x" * 81, "a\nb"):
        with pytest.raises(InputError, match="annotator's name"):
            members.invite(name)


def test_a_session_ends_after_its_time(tmp_path):
    now = [0.0]
    with RankingStore(tmp_path / "rankings.sqlite", clock=lambda: now[0]) as store:
        members = Members(store)
        who, secret = members.sign_in(members.invite("ann"))
        now[0] = 30 * 24 * 3600 - 1
        assert members.signed_in(secret) == who
        now[0] += 2
        assert members.signed_in(secret) is None


def test_the_file_is_for_its_owner_and_writes_ahead(store, tmp_path):
    path = tmp_path / "rankings.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with store.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_two_stores_of_one_process_lose_nothing_when_another_process_closes_its_own(store, tmp_path):
    """Were the file opened beside SQLite, closing it would drop SQLite's locks; the other process would take itself for
    the last, and remove the log into which this one goes on writing."""
    with RankingStore(tmp_path / "rankings.sqlite") as second:
        visit = (
            "import sys; from engine.ranking import RankingStore as S\nwith S(sys.argv[1]) as one: print(one.counts())"
        )
        for number, one in enumerate([store, second, store], 1):
            one.put(Question(f"Which, the {number}.?", ("sand", "dusk")))
            done = subprocess.run(
                [sys.executable, "-c", visit, store.where], capture_output=True, text=True, check=True
            )
            assert done.stdout.strip() == str(store.counts())
            assert store.counts()["questions"] == number


def test_a_file_that_is_no_store_and_a_folder_that_is_not_there_are_named(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("this is no database, and is long enough for SQLite to see that" * 20)
    with pytest.raises(DataError, match=r"other\.txt"):
        RankingStore(other)
    with pytest.raises(DataError, match="nowhere"):
        RankingStore(tmp_path / "nowhere" / "rankings.sqlite")
    with pytest.raises(InputError, match="no database URL"):
        RankingStore("://")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The URL of a PostgreSQL of the test's own, where one is installed."""
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


def test_postgresql_serves_as_well(postgres):
    with RankingStore(postgres) as store:
        desk, members = Desk(store), Members(store)
        ann, bob = (members.sign_in(members.invite(name))[0] for name in ("ann", "bob"))
        asked = store.put(Question("q", ("a", Media(PNG)), votes=2))
        for who in (ann, bob):
            ids = sorted(one for one, _ in desk.next(who).candidates.values())
            assert desk.save_draft(who, asked, {"places": {}, "note": "", "all_bad": False})
            assert desk.submit(who, asked, f"form {who.name}", Ranking([[one] for one in ids])) == "kept"
            assert desk.submit(who, asked, f"form {who.name}", Ranking([ids])) == "again"
        assert desk.undo(bob) == asked and store.settled(asked) is None
        assert desk.submit(bob, asked, "once more", Ranking([ids])) == "kept"
        assert [vote.annotator for vote in store.settled(asked)] == ["ann", "bob"]
        assert store.blob(Media(PNG).sha256) == ("image/png", PNG)
        assert desk.progress(ann).answered == 1
