"""The interface: run, call, run_twice, limits, threads, forks, closing."""

import logging
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import ParamError
from engine.sandbox import Sandbox, shared
from engine.sandbox import sandbox as sandbox_module


def test_a_call_gives_what_the_function_returns(sandbox: Sandbox) -> None:
    source = "def scale(xs, by=1, *, add=0): return {'xs': tuple(x * by + add for x in xs)}"
    assert sandbox.call(source, "scale", ([1, 2],), {"by": 3, "add": 1}).value == {"xs": (4, 7)}


def test_values_come_back_by_exact_type(sandbox: Sandbox) -> None:
    value = [None, True, -1, 2**70, 1.5, -0.0, math.inf, 1j, "ü\n", b"\0", (1, [2]), {1: {2}}, frozenset({()}), {}, ""]
    found = sandbox.call("def same(x): return x", "same", (value,)).value
    assert repr(found) == repr(value)
    assert math.isnan(sandbox.run("RESULT = float('nan')").value)


def test_a_function_that_is_called_is_not_main(sandbox: Sandbox) -> None:
    source = "ran = __name__ == '__main__'\ndef f(): return ran"
    assert sandbox.call(source, "f").value is False


def test_an_exception_says_where_it_was(sandbox: Sandbox) -> None:
    source = "def inner(x):\n    raise ValueError('bad ' + x)\n\ndef outer():\n    inner('luck')\n"
    error = sandbox.call(source, "outer").error
    assert error is not None
    assert (error.kind, error.type, error.text) == ("exception", "ValueError", "ValueError: bad luck")
    assert error.traceback.splitlines() == [
        'File "<program>", line 5, in outer', "    inner('luck')",
        'File "<program>", line 2, in inner', "    raise ValueError('bad ' + x)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "kind", "type_name"),
    [
        ("class Mine(KeyError): pass\nraise Mine('a')", "exception", "KeyError"),
        ("raise SystemExit(3)", "exception", "SystemExit"),
        ("exit()", "exception", "SystemExit"),
        ("class MemoryError(ValueError): pass\nraise MemoryError", "exception", "ValueError"),
        ("raise MemoryError", "memory", "MemoryError"),
        ("x = (", "syntax", "SyntaxError"),
        ("if 1:\nx", "syntax", "SyntaxError"),
        ("\0", "syntax", ""),
        ("x = 1", "value", ""),
        ("RESULT = object()", "value", ""),
        ("RESULT = {1: [lambda: 0]}", "value", ""),
        ("RESULT = '\\ud800'", "value", ""),
        ("RESULT = b'x' * 2**21", "output", ""),
    ],
)
def test_why_there_is_no_value(sandbox: Sandbox, source: str, kind: str, type_name: str) -> None:
    outcome = sandbox.run(source)
    assert outcome.error is not None
    assert (outcome.ok, outcome.value, outcome.error.kind) == (False, None, kind)
    assert outcome.error.type == type_name or not type_name


def test_a_function_that_is_not_there(sandbox: Sandbox) -> None:
    error = sandbox.call("g = 3", "g").error
    assert error is not None
    assert (error.kind, "no function 'g'" in error.text) == ("value", True)


def test_where_in_a_result_the_bad_part_is(sandbox: Sandbox) -> None:
    error = sandbox.run("RESULT = {'a': [1, object()]}").error
    assert error is not None
    assert "type object in [1] in ['a']" in error.text


def test_the_limits(sandbox: Sandbox) -> None:
    assert sandbox.run("RESULT = len(bytearray(300 * 2**20))", memory_mb=512).ok
    assert sandbox.run("RESULT = len(bytearray(300 * 2**20))", memory_mb=256).error.kind == "memory"
    assert sandbox.run("RESULT = 'x' * 3000", output_kb=4).ok
    assert sandbox.run("RESULT = 'x' * 5000", output_kb=4).error.kind == "output"
    cut = sandbox.run("print('x' * 5000)\nRESULT = 1", output_kb=4)
    assert (cut.error.kind, len(cut.stdout)) == ("output", 4096)
    late = sandbox.run("print('soon', flush=True)\nwhile True: pass", timeout_s=0.2)
    assert (late.error.kind, late.stdout) == ("timeout", "soon\n")
    assert 0.2 <= late.seconds < 2.0
    assert sandbox.run("RESULT = 1", memory_mb=64).ok


@pytest.mark.parametrize("limits", [{"timeout_s": 0}, {"timeout_s": math.nan}, {"memory_mb": 1}, {"output_kb": 0}])
def test_limits_that_cannot_be(limits: dict[str, float]) -> None:
    with Sandbox() as unstarted, pytest.raises(ParamError):
        unstarted.run("RESULT = 1", **limits)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ParamError, match="no sandbox tier 'docker'"):
        Sandbox(tier="docker")
    with pytest.raises(ParamError):
        Sandbox(workers=0)
    with Sandbox() as unstarted:
        with pytest.raises(ParamError, match="type object"):
            unstarted.call("def f(x): pass", "f", (object(),))
        with pytest.raises(ParamError):
            unstarted.call("def f(x): pass", "f(1) or g")
        with pytest.raises(ParamError):
            unstarted.run(b"RESULT = 1")  # type: ignore[arg-type]


def test_a_source_that_is_too_long_is_not_run() -> None:
    with Sandbox() as unstarted:
        error = unstarted.run("#" * 300_000).error
    assert error is not None
    assert error.kind == "refused"


@pytest.mark.parametrize(
    ("source", "agrees"),
    [
        ("RESULT = {3, 1, 2}", True),
        ("RESULT = float('nan')", True),
        ("RESULT = list({'a', 'b', 'c', 'd', 'e', 'f'})", False),  # by hash seed
        ("RESULT = hash('a')", False),
        ("import random\nRESULT = random.random()", False),
        ("import random\nrandom.seed(1)\nRESULT = random.random()", True),
        ("import time\nRESULT = time.time_ns()", False),
        ("import os\nRESULT = os.urandom(8)", False),
        ("RESULT = id(object())", False),
        ("1 / 0", True),
        ("import random\nRESULT = 1 if hash('a') % 10**6 > 3 else 1", True),
    ],
)
def test_whether_a_program_is_deterministic(sandbox: Sandbox, source: str, agrees: bool) -> None:
    assert sandbox.run_twice(source).agrees is agrees


def test_a_call_twice(sandbox: Sandbox) -> None:
    twice = sandbox.run_twice("def f(x): return x + 1", "f", (1,))
    assert (twice.outcome.value, twice.agrees) == (2, True)


def test_two_runs_do_not_share_their_random_numbers(sandbox: Sandbox) -> None:
    source = "import random, uuid\nRESULT = (random.random(), str(uuid.uuid4()))"
    found = [sandbox.run(source).value for _ in range(3)]
    assert len({number for number, _ in found}) == len({name for _, name in found}) == 3


def test_threads_share_a_sandbox(sandbox: Sandbox) -> None:
    with Sandbox(tier=sandbox.tier, workers=2) as mine, ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: mine.run(f"RESULT = {n} ** 2").value, range(40)))
    assert found == [n**2 for n in range(40)]


def test_a_worker_outlives_the_thread_that_started_it(sandbox: Sandbox) -> None:
    with Sandbox(tier=sandbox.tier, workers=1) as mine:
        found: list[int] = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: found.append(mine.run("import os\nRESULT = os.getppid()").value))
            thread.start()
            thread.join()
        assert found[0] == found[1]


def test_workers_run_beside_one_another(sandbox: Sandbox) -> None:
    """Two programs that each wait until both have begun can only end if they do not take turns."""
    with Sandbox(tier=sandbox.tier, workers=2) as mine, ThreadPoolExecutor(2) as pool:
        mine.run("RESULT = 1")
        begun = time.monotonic() + 1.0
        source = (
            f"import time\nstart = time.monotonic()\nwhile time.monotonic() < {begun}: time.sleep(0.01)\nRESULT = start"
        )
        starts = list(pool.map(lambda _: mine.run(source, timeout_s=20.0).value, range(2)))
    assert max(starts) < begun


def test_a_lost_worker_is_replaced(sandbox: Sandbox, processes) -> None:
    with Sandbox(tier=sandbox.tier, workers=1) as mine:
        before = processes(os.getpid())
        assert mine.run("RESULT = 1").ok
        for pid in sorted(processes(os.getpid()) - before, reverse=True):
            os.kill(pid, 9)
        assert mine.run("RESULT = 2").value == 2


def test_a_worker_lost_with_its_program_is_a_crash(sandbox: Sandbox, processes) -> None:
    with Sandbox(tier=sandbox.tier, workers=1) as mine:
        before = processes(os.getpid())
        assert mine.run("RESULT = 1").ok
        workers = processes(os.getpid()) - before

        def kill() -> None:
            while not processes(os.getpid()) - before - workers:
                time.sleep(0.01)
            for pid in workers:
                os.kill(pid, 9)

        killer = threading.Thread(target=kill)
        killer.start()
        outcome = mine.run("import time\ntime.sleep(60)", timeout_s=60.0)
        killer.join()
        assert outcome.error is not None
        assert outcome.error.kind == "crash"
        assert mine.run("RESULT = 2").value == 2


def test_closing_ends_every_process_and_a_job_under_way(sandbox: Sandbox, processes) -> None:
    before = processes(os.getpid())
    mine = Sandbox(tier=sandbox.tier, workers=1)
    assert mine.run("RESULT = 1").ok
    workers = processes(os.getpid()) - before
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(mine.run, "import time\ntime.sleep(60)", timeout_s=60.0)
        while not processes(os.getpid()) - before - workers:
            time.sleep(0.01)
        mine.close()
        assert under_way.result().error.kind == "crash"
    assert not processes(os.getpid()) - before
    with pytest.raises(ParamError, match="closed"):
        mine.run("RESULT = 1")


def test_a_sandbox_that_is_dropped_ends_its_processes(sandbox: Sandbox, processes) -> None:
    before = processes(os.getpid())
    mine = Sandbox(tier=sandbox.tier)
    assert mine.run("RESULT = 1").ok
    del mine
    assert not processes(os.getpid()) - before


def test_an_interrupt_leaves_no_answer_behind_for_the_next_run(sandbox: Sandbox, monkeypatch) -> None:
    with Sandbox(tier=sandbox.tier, workers=1) as mine:
        mine.run("RESULT = 1")
        worker = mine._all[0].workers[0]
        monkeypatch.setattr(type(worker), "_order", _interrupted(type(worker)._order))
        with pytest.raises(KeyboardInterrupt):
            mine.run("RESULT = 'the answer to the interrupted run'")
        monkeypatch.undo()
        assert mine.run("RESULT = 'mine'").value == "mine"


def _interrupted(order):
    def then_interrupt(*args: object) -> None:
        order(*args)
        raise KeyboardInterrupt

    return then_interrupt


def test_a_fork_of_the_host_has_workers_of_its_own(sandbox: Sandbox) -> None:
    with Sandbox(tier=sandbox.tier, workers=1) as mine:
        parent = mine.run("import os\nRESULT = os.getppid()").value
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            found = mine.run("RESULT = 5")
            mine.close()
            os.write(writing, repr(found.value).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        assert os.read(reading, 100) == b"5"
        os.close(reading)
        assert mine.run("import os\nRESULT = os.getppid()").value == parent


def test_running_unsafely_is_logged_at_every_run(unsafe: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "engine.sandbox"):
        for _ in range(3):
            assert unsafe.run("RESULT = 1").ok
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_the_shared_sandbox(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    monkeypatch.setattr(sandbox_module, "_shared", None)
    monkeypatch.setenv("ENGINE_SANDBOX", sandbox.tier)
    with shared() as first:
        assert first is shared()
        assert first.tier == sandbox.tier
    with shared() as second:
        assert second is not first
    monkeypatch.setenv("ENGINE_SANDBOX", "nothing")
    with pytest.raises(ParamError):
        shared()


def test_an_outcome_can_always_be_shown(sandbox: Sandbox) -> None:
    assert "too many digits" in repr(sandbox.run("RESULT = 10 ** 5000"))
