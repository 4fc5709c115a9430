"""Nothing that was acknowledged is lost, and nothing counts twice, where the server is killed under people's hands."""

from benchmarks.ranking_form import check, driven


def test_every_acknowledged_answer_is_there_once_after_kills(tmp_path):
    where = tmp_path / "rankings.sqlite"
    visitors, _ = driven(where, annotators=4, answers=40, kills=2)
    assert [len(visitor.acknowledged) for visitor in visitors] == [40] * 4
    check(where, visitors, annotators=4)
    for visitor in visitors:
        visitor.connection.close()
