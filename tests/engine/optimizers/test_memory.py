"""The memory of strategies: counted evidence, a bound, and a file that runs share."""

from __future__ import annotations

import itertools
import json
import threading

import pytest

from engine.errors import DataError, InputError
from engine.optimizers._memory import WAITING, Entry, Experience, Memory, Store, cut


def entry(name, score=None, count=1):
    return Entry(name, f"situation {name}", f"strategy {name}", "helped", count, count, score, "{}", score)


def seen(name, score=None):
    return Experience(name, "longer", json.dumps({"x": name}), score)


def test_evidence_is_counted_and_averaged_and_the_best_values_are_kept():
    found = Entry("a", "s", "t", "o").with_evidence([seen("1", 2.0), seen("2", None), seen("3", 4.0), seen("4", 3.0)])
    assert (found.count, found.scored, found.score) == (4, 3, pytest.approx(3.0))
    assert (found.best, found.best_score) == ('{"x": "3"}', 4.0)
    later = found.with_evidence([seen("5", -1.0)])
    assert (later.count, later.score, later.best_score) == (5, pytest.approx(2.0), 4.0)


def test_the_better_half_and_the_best_borne_out_stay():
    entries = [entry("good", 9.0), entry("fair", 8.0), entry("dull", 1.0, 7), entry("rare", 1.5, 2), entry("none")]
    assert [e.id for e in Memory(tuple(entries)).bounded(4).entries] == ["good", "fair", "dull", "rare"]
    assert [e.id for e in Memory(tuple(entries)).bounded(3).entries] == ["good", "fair", "dull"]
    waiting = Memory((), tuple(seen(str(i)) for i in range(WAITING + 5))).bounded(3).waiting
    assert [waiting[0].id, len(waiting)] == ["5", WAITING]


def test_a_memory_survives_its_json_and_other_data_are_refused(tmp_path):
    memory = Memory((entry("a", 1.0), entry("b")), (seen("c", 2.0), Experience("d", "", "{}", None, 2, ("why", "so"))))
    assert Memory.of(json.loads(json.dumps(memory.to_json())), "here") == memory
    for broken in ([], {}, {**memory.to_json(), "format": 2}, {**memory.to_json(), "path": "/etc/passwd"}):
        with pytest.raises(DataError, match="not a memory of strategies"):
            Memory.of(broken, "here")
    long = memory.to_json()
    long["entries"][0]["strategy"] = "x" * 601
    with pytest.raises(DataError, match="length 601 is above 600"):
        Memory.of(long, "here")
    (tmp_path / "m.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"m\.json:1"):
        Store(tmp_path / "m.json", 4).load()
    with pytest.raises(InputError, match="folder of the memory"):
        Store(tmp_path / "none" / "m.json", 4).load()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_merging_again_changes_nothing_and_the_order_of_runs_changes_no_entry(tmp_path, order):
    path = tmp_path / "m.json"
    runs = [
        Memory((entry("a", 1.0, 3), entry("b", 5.0)), (seen("1"),)),
        Memory((entry("a", 1.5, 4), entry("c", 2.0), entry("d", 0.5)), (seen("2"),)),
        Memory((entry("e", 3.0, 2), entry("f"), entry("g", 4.0, 2))),
    ]
    for place in order:
        Store(path, 4).merge(runs[place])
    written = path.read_bytes()
    for place in order:
        Store(path, 4).merge(runs[place])
        assert path.read_bytes() == written
    found = Store(path, 4).load()
    assert {e.id for e in found.entries} == {"b", "g", "a", "e"}
    assert next(e for e in found.entries if e.id == "a").count == 4
    assert {e.id for e in found.waiting} == {"1", "2"}


def test_what_a_run_took_out_goes_and_what_another_wrote_stays(tmp_path):
    path = tmp_path / "m.json"
    Store(path, 4).merge(Memory((entry("wrong", 1.0), entry("right", 2.0)), (seen("heard"), seen("new"))))
    Store(path, 4, {"wrong": None, "heard": None}).merge(Memory((entry("right", 2.0),)))
    found = Store(path, 4).load()
    assert [e.id for e in found.entries] == ["right"] and [e.id for e in found.waiting] == ["new"]
    Store(None, 4).merge(found)
    assert Store(None, 4).load() == Memory()


def test_many_writers_at_once_lose_nothing(tmp_path):
    path = tmp_path / "m.json"

    def write(number):
        for step in range(4):
            Store(path, 64).merge(Memory((entry(f"{number}-{step}", 1.0),)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Store(path, 64).load().entries) == 24
    assert sorted(p.name for p in tmp_path.iterdir()) == [".m.json.lock", "m.json"]


def test_a_text_is_cut_to_one_line_that_json_can_hold():
    assert cut("a\n b\tc", 10) == "a b c"
    assert cut("x" * 20, 10) == "xxxxxx ..."
    assert cut("half \ud800 pair", 40) == "half ? pair"
