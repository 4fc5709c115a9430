"""Facts of a ranking store: questions by content, media by their bytes, databases that are none, other processes."""

import stat
import subprocess
import sys

import pytest
from sqlalchemy import select

from engine.errors import DataError, InputError, UnknownName
from engine.ranking import Media, Ranking, RankingStore
from engine.ranking.desk import Desk
from engine.ranking.members import Members
from engine.ranking.question import Question, candidate_id
from engine.ranking.tables import metadata

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


@pytest.fixture
def store(where):
    with RankingStore(where) as store:
        yield store


@pytest.fixture
def file(tmp_path):
    """A store that is a file."""
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


def test_more_votes_after_the_first_were_used_can_be_taken_back_until_they_are_used_too(where):
    now = [1000.0]
    with RankingStore(where, clock=lambda: now[0]) as store:
        desk, members = Desk(store), Members(store)
        ann, bob = (members.sign_in(members.invite(name))[0] for name in ("ann", "bob"))
        asked = store.put(Question("q", ("a", "b")))
        ids = [one for one, _ in desk.next(ann).candidates.values()]
        desk.submit(ann, asked, "form of ann", Ranking([ids]))
        now[0] += 1
        assert len(store.settled(asked)) == 1
        store.put(Question("q", ("a", "b"), votes=2))
        desk.next(bob)
        now[0] += 1
        desk.submit(bob, asked, "form of bob", Ranking([ids]))
        assert store.settled(asked, for_s=2) is None
        assert not desk.can_undo(ann) and desk.undo(bob) == asked
        desk.submit(bob, asked, "again of bob", Ranking([ids]))
        now[0] += 2
        assert len(store.settled(asked, for_s=2)) == 2
        assert not desk.can_undo(bob)


def test_texts_that_no_database_holds_are_kept_as_far_as_they_can_be(store):
    """Half a character of UTF-16, and NUL."""
    asked = store.put(Question("q\ud800\x00", ("a\ud800", "b\x00", "c")))
    desk, members = Desk(store), Members(store)
    ann = members.sign_in(members.invite("ann"))[0]
    assigned = desk.next(ann)
    assert assigned.question == asked and assigned.prompt == "q?\ufffd"
    assert {shown["text"] for _, shown in assigned.candidates.values()} == {"a\ud800", "b\x00", "c"}
    note = Ranking([[one for one, _ in assigned.candidates.values()]], note="\x00\ud800")
    desk.save_draft(ann, asked, {"places": {}, "note": "\x00\ud800", "all_bad": False})
    assert desk.submit(ann, asked, "form", note) == "kept"
    assert store.votes()[0].ranking == note


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


def test_links_are_kept_as_hashes_and_end_when_they_are_revoked(store):
    members = Members(store)
    first, second = members.invite("ann"), members.invite("ann")
    who, secret = members.sign_in(first)
    assert members.sign_in(second)[0] == who == members.signed_in(secret)
    with store.database.reading() as connection:
        kept = repr([connection.execute(select(table)).all() for table in metadata.sorted_tables])
    assert "ann" in kept and not any(one in kept for one in (first, second, secret))
    members.revoke("ann")
    assert members.sign_in(first) is None and members.signed_in(secret) is None
    with pytest.raises(UnknownName, match="bob"):
        members.revoke("bob")
    for name in ("", " ", "x" * 81, "a\nb"):
        with pytest.raises(InputError, match="annotator's name"):
            members.invite(name)


def test_a_session_ends_after_its_time(where):
    now = [0.0]
    with RankingStore(where, clock=lambda: now[0]) as store:
        members = Members(store)
        who, secret = members.sign_in(members.invite("ann"))
        now[0] = 30 * 24 * 3600 - 1
        assert members.signed_in(secret) == who
        now[0] += 2
        assert members.signed_in(secret) is None


def test_the_file_is_for_its_owner_and_writes_ahead(file, tmp_path):
    path = tmp_path / "rankings.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with file.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_two_stores_of_one_process_lose_nothing_when_another_process_closes_its_own(file, tmp_path):
    """Were the file opened beside SQLite, closing it would drop SQLite's locks; the other process would take itself for
    the last, and remove the log into which this one goes on writing."""
    with RankingStore(tmp_path / "rankings.sqlite") as second:
        visit = (
            "import sys; from engine.ranking import RankingStore as S\nwith S(sys.argv[1]) as one: print(one.counts())"
        )
        for number, one in enumerate([file, second, file], 1):
            one.put(Question(f"Which, the {number}.?", ("sand", "dusk")))
            done = subprocess.run([sys.executable, "-c", visit, file.where], capture_output=True, text=True, check=True)
            assert done.stdout.strip() == str(file.counts())
            assert file.counts()["questions"] == number


def test_a_file_that_is_no_store_and_a_folder_that_is_not_there_are_named(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("this is no database, and is long enough for SQLite to see that" * 20)
    with pytest.raises(DataError, match=r"other\.txt"):
        RankingStore(other)
    with pytest.raises(DataError, match="nowhere"):
        RankingStore(tmp_path / "nowhere" / "rankings.sqlite")
    with pytest.raises(InputError, match="no database URL"):
        RankingStore("://")
