from __future__ import annotations

import asyncio
import contextvars
import json
import random
import subprocess
import threading

import pytest

from engine import Budget, Feedback, Result, optimize, optimize_async, trace
from engine.errors import InputError, Stopped
from engine.journal import Journal
from engine.jsonfiles import read_json, read_lines
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Optimizer


class Fixed(Optimizer):
    """Proposes what it was given, one after the other."""

    needs_llm = False

    def __init__(self, *proposals, n=1):
        super().__init__(candidates=n)
        self.left = list(proposals)
        self.states = []
        self.observed = []

    def propose(self, state, n):
        self.states.append(state)
        taken, self.left = self.left[:n], self.left[n:]
        return [p if isinstance(p, Candidate) else Candidate(p) for p in taken]

    def observe(self, evaluations):
        self.observed.append(list(evaluations))


@pytest.fixture
def run(tmp_path):
    """optimize() in a folder of its own, with one worker and few invalid proposals."""

    def call(workflow, data=None, **options):
        options = {"run_dir": tmp_path / "run", "workers": 1, "budget": Budget(evaluations=8, invalid=8), **options}
        return optimize(workflow, data, **options)

    return call


def quadratic(start=0.0):
    x = trace.param(start, name="x", ge=-5, le=5, description="where")

    @trace.node
    def height(x: float, target: float) -> float:
        return -((x - target) ** 2)

    return x, lambda target: height(x, target)


def test_the_best_values_are_returned_and_set(run):
    x, workflow = quadratic()
    result = run(workflow, [2.0, 4.0], feedback=lambda _, out: out, optimizer=Fixed({"x": 1.0}, {"x": 3}, {"x": 5}))
    # mean of -(3-2)^2 and -(3-4)^2 is -1; at the start -(0-2)^2 and -(0-4)^2 is -10
    assert result.best == {"x": 3.0} and x.value == 3.0
    assert (result.baseline, result.score) == (-10, -1)
    assert [e.candidate.values["x"] for e in result.history] == [0.0, 1.0, 3.0, 5.0]
    assert [e.accepted for e in result.history] == [False, True, True, False]
    assert isinstance(result, Result) and result.status == "done"


def test_stored_values_are_untouched_until_acceptance(run):
    x, workflow = quadratic()
    stored = []

    def feedback(_, out):
        thread = threading.Thread(target=lambda: stored.append(x.value))  # sees no overlay
        thread.start()
        thread.join()
        return out

    run(workflow, [2.0], feedback=feedback, optimizer=Fixed({"x": -1}, {"x": 1}, {"x": 2}))
    assert stored == [0, 0, 0, 1]


def test_a_workflow_without_arguments_is_one_example(run):
    word = trace.param("a", name="word", choices=["a", "b"])

    @trace.node
    def say(word):
        return word

    seen = []
    result = run(
        lambda: say(word),
        feedback=lambda example, out: seen.append(example) or out == "b",
        optimizer=Fixed({"word": "b"}),
    )
    assert result.best == {"word": "b"} and seen == [None, None]


def test_every_example_is_one_positional_argument(run):
    x = trace.param(1, name="x")
    got = []

    def workflow(example):
        got.append(example)
        return x + 0

    run(workflow, [(1, 2), {"a": 1}, [3]], feedback=lambda _, out: out, optimizer=Fixed())
    assert got == [(1, 2), {"a": 1}, [3]]


def test_params_are_found_in_modules_in_nodes_and_in_plain_reads(run):
    class Program(trace.Module):
        def __init__(self):
            self.unused = trace.param(1, name="unused")

        def forward(self, example):
            return f"{plain} {self.size + inner}"

        def __call__(self, example):
            return self.forward(example)

    plain = trace.param("p", name="plain")
    inner = trace.param(2, name="inner")
    program = Program()
    program.size = trace.param(3, name="size")
    result = run(program, [1], feedback=lambda _, out: 0, optimizer=Fixed())
    assert set(result.best) == {"unused", "size", "plain", "inner"}
    assert set(run(program.forward, [1], run_dir=None, feedback=lambda _, out: 0, optimizer=Fixed()).best) == set(
        result.best
    )


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_proposer_that_lies_never_makes_the_result_worse_than_the_start(run):
    _x, workflow = quadratic(start=1.0)

    def lie(messages):
        number = random.Random(len(str(messages))).uniform(-5, 5)
        return {"reasoning": "This is certain to score 1000000, accept it.", "suggestion": {"x": number}}

    result = run(
        workflow,
        [1.0, 1.1],
        feedback=lambda _, out: Feedback(out, "fine"),
        optimizer="optoprime",
        llm=ScriptedLLM(lie),
        accept="better",
    )
    assert result.score >= result.baseline and len(result.history) > 3


@pytest.mark.parametrize("accept", ["paired", "better"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_no_accepted_value_is_worse_on_all_the_data_whatever_the_batches_say(run, accept, batch_size):
    rng = random.Random(0)
    x = trace.param(0, name="x", ge=0, le=999)
    luck = {(v, e): rng.random() for v in range(1000) for e in range(10)}

    @trace.node
    def draw(x, example):
        return luck[x, example]

    held = []
    result = run(
        lambda example: draw(x, example),
        range(10),
        feedback=lambda _, out: out,
        optimizer=Fixed(*({"x": v} for v in range(1, 60)), n=4),
        budget=Budget(evaluations=59),
        accept=accept,
        batch_size=batch_size,
        callbacks=[lambda report: held.append(report.row["current_score"])],
    )
    assert held == sorted(held) and held[0] >= result.baseline
    assert result.score == pytest.approx(sum(luck[result.best["x"], e] for e in range(10)) / 10)


def test_equal_values_and_examples_are_run_once(run):
    _x, workflow = quadratic()
    runs = []

    def counted(example):
        runs.append(example)
        return workflow(example)

    result = run(counted, [1.0, 2.0], feedback=lambda _, out: out, optimizer=Fixed({"x": 1}, {"x": 1.0}, {"x": 2}))
    assert len(runs) == 2 * 3
    assert result.cost.runs == 6 and result.cost.evaluations == 2


def test_runs_in_threads_see_their_own_values_and_the_callers_context(run):
    x, workflow = quadratic()
    asked = contextvars.ContextVar("asked")
    asked.set("by me")
    gate = threading.Barrier(4, timeout=20)
    contexts = []

    def together(example):
        if x.value != 0:
            gate.wait()  # four candidates at a time, or this breaks
        contexts.append(asked.get())
        return workflow(example) + 0 * x

    result = run(
        together,
        [3.0],
        feedback=lambda _, out: out,
        optimizer=Fixed(*({"x": v} for v in (1, 2, 3, 4)), n=4),
        workers=4,
    )
    assert [e.score for e in result.history] == [-9, -4, -1, 0, -1]
    assert set(contexts) == {"by me"}


def test_a_coroutine_workflow_and_feedback_run_inside_optimize(run):
    _x, workflow = quadratic()

    async def slow(example):
        await asyncio.sleep(0)
        return workflow(example)

    async def judge(_, out):
        await asyncio.sleep(0)
        return out

    result = run(slow, [1.0, 2.0], feedback=judge, optimizer=Fixed({"x": 1}, {"x": 2}, n=2), workers=3)
    assert [e.score for e in result.history] == [-2.5, -0.5, -0.5]


async def test_optimize_async_runs_coroutines_on_the_callers_loop(tmp_path):
    _x, workflow = quadratic()
    loops = set()

    async def on_loop(example):
        loops.add(asyncio.get_running_loop())
        return workflow(example)

    result = await optimize_async(
        on_loop,
        [1.0],
        feedback=lambda _, out: out,
        optimizer=Fixed({"x": 1}),
        run_dir=tmp_path / "r",
        budget={"steps": 1},
    )
    assert result.best == {"x": 1.0} and loops == {asyncio.get_running_loop()}


async def test_a_cancelled_optimize_async_stops_and_can_be_resumed(tmp_path):
    _x, workflow = quadratic()
    started = threading.Event()

    class Endless(Optimizer):
        needs_llm = False

        def propose(self, state, n):
            started.set()
            return [Candidate({"x": state.rng.uniform(-5, 5)})]

    task = asyncio.create_task(
        optimize_async(
            workflow, [1.0], feedback=lambda _, out: out, optimizer=Endless(), run_dir=tmp_path / "r",
            budget={"evaluations": None},
        )
    )  # fmt: skip
    await asyncio.to_thread(started.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(400):
        if read_json(tmp_path / "r" / "status.json")["status"] == "stopped":
            return
        await asyncio.sleep(0.02)
    pytest.fail("the search did not stop")


def test_validation_is_never_seen_by_the_search_and_has_an_interval(run):
    _x, workflow = quadratic()
    optimizer = Fixed({"x": 2})
    result = run(workflow, [2.0, 2.0], feedback=lambda _, out: out, optimizer=optimizer, validation=[1.0, 3.0])
    # (0-1)^2 and (0-3)^2 before, (2-1)^2 and (2-3)^2 after
    assert (result.validation.baseline.score, result.validation.best.score) == (-5, -1)
    assert result.validation.difference.score == 4
    assert result.validation.baseline.low == -9 and result.validation.baseline.high == -1
    assert result.cost.validation_runs == 4 and result.cost.runs == 4
    assert all(set(e.examples) == {0, 1} for e in result.history)


def test_a_share_is_held_out_and_the_rest_is_searched_on(run):
    _x, workflow = quadratic()
    result = run(
        workflow, [float(i) for i in range(10)], feedback=lambda _, out: out, optimizer=Fixed(), validation=0.3
    )
    assert result.validation.best.n == 3 and len(result.history[0].examples) == 7


def test_failed_runs_are_data(run):
    x = trace.param(0, name="x")

    @trace.node(catch=True)
    def divide(x, example):
        return example / x if x < 5 else 0 / 0

    optimizer = Fixed({"x": 7}, {"x": 2})
    result = run(lambda e: divide(x - 1, e), [1, 2], feedback=lambda _, out: out, optimizer=optimizer)
    refused = result.history[1]
    assert refused.failed == (True, True) and not refused.accepted and refused.score is None
    assert "ZeroDivisionError" in refused.feedback[0].text
    assert result.best == {"x": 2}


def test_text_feedback_alone_takes_the_newest_proposal(run):
    _x, workflow = quadratic()
    result = run(workflow, [1.0], feedback=lambda _, out: "go on", optimizer=Fixed({"x": 1}, {"x": -1}))
    assert result.best == {"x": -1.0} and result.score is None and result.baseline is None


def test_several_objectives_count_as_their_mean_and_are_kept(run):
    _x, workflow = quadratic()
    result = run(workflow, [1.0], feedback=lambda _, out: {"near": out, "small": 2.0}, optimizer=Fixed({"x": 1}))
    assert result.score == 1.0 and result.history[1].feedback[0].score == {"near": 0.0, "small": 2.0}


def test_trajectories_are_the_worst_runs_with_their_graph(run):
    _x, workflow = quadratic()
    optimizer = Fixed({"x": 1})
    optimizer.needs = frozenset({"score", "graph"})
    optimizer.shown = 2
    run(workflow, [1.0, 9.0, 3.0], feedback=lambda _, out: Feedback(out, "off"), optimizer=optimizer)
    shown = optimizer.states[0].trajectories
    assert [t.example for t in shown] == ["9.0", "3.0"]
    assert shown[0].subgraph.code() == "height_1 = height(x, 9.0)"
    assert [p.name for p in shown[0].subgraph.params] == ["x"]


def test_what_an_optimizer_sees_and_observes(run):
    _x, workflow = quadratic()
    optimizer = Fixed({"x": 7}, {"x": 1}, {"x": 1})

    def named(example):
        """Climb the hill."""
        return workflow(example)

    run(named, [1.0], feedback=lambda _, out: out, optimizer=optimizer)
    first, second, third = optimizer.states[:3]
    assert first.objective == "Climb the hill." and first.initial == {"x": 0.0} and len(first.history) == 1
    assert "7" in second.notes["refused"][0] and "above 5" in second.notes["refused"][0]
    assert third.current == {"x": 1.0} and third.history[-1].accepted
    assert [len(e) for e in optimizer.observed[:3]] == [0, 1, 0]


def test_callbacks_are_told_and_may_stop(run):
    _x, workflow = quadratic()
    rows = []

    def callback(report):
        rows.append(report.row)
        if len(rows) == 2:
            raise Stopped("enough")

    result = run(
        workflow,
        [1.0],
        feedback=lambda _, out: out,
        optimizer=Fixed(*({"x": v} for v in range(5))),
        callbacks=[callback],
    )
    assert result.stopped_by == "enough" and result.status == "stopped" and len(rows) == 2
    assert rows[1] == read_lines(result.run_dir / "metrics.jsonl")[-1]


def test_a_stop_file_ends_the_search_and_its_removal_lets_it_go_on(run):
    _x, workflow = quadratic()

    def stop(report):
        (tmp / "stop").touch()

    import pathlib

    tmp = pathlib.Path("run").absolute()
    result = run(workflow, [3.0], feedback=lambda _, out: out, optimizer=Fixed({"x": 1}, {"x": 2}), callbacks=[stop])
    assert (result.stopped_by, result.status, result.best) == ("stop file", "stopped", {"x": 1.0})
    (tmp / "stop").unlink()
    again = run(workflow, [3.0], feedback=lambda _, out: out, optimizer=Fixed({"x": 2}))
    assert again.status == "done" and again.best == {"x": 2.0}
    assert [e.step for e in again.history] == [0, 1, 2]


def test_texts_alone_on_batches_take_the_newest_proposal(run):
    _x, workflow = quadratic()
    result = run(
        workflow, [1.0, 2.0, 3.0], feedback=lambda _, out: "say", optimizer=Fixed({"x": 1}, {"x": 2}), batch_size=1
    )
    assert (result.best, result.score, result.baseline) == ({"x": 2.0}, None, None)


def test_ctrl_c_in_the_closing_validation_stops_the_run(run):
    x, workflow = quadratic()

    def interrupted(example):
        if x.value and example == 9.0:
            raise KeyboardInterrupt
        return workflow(example) + 0 * x

    options = {"feedback": lambda _, out: out, "budget": Budget(evaluations=1), "validation": [9.0]}
    result = run(interrupted, [4.0], optimizer=Fixed({"x": 2}), **options)
    assert (result.status, result.stopped_by, result.score) == ("stopped", "interrupt", -4)  # -(2 - 4)^2


def test_ctrl_c_keeps_the_best_so_far(run):
    x, workflow = quadratic()

    def interrupted(example):
        if x.value == 3:
            raise KeyboardInterrupt
        return workflow(example) + 0 * x

    result = run(interrupted, [4.0], feedback=lambda _, out: out, optimizer=Fixed({"x": 2}, {"x": 3}), validation=[4.0])
    assert (result.best, result.stopped_by, result.status) == ({"x": 2.0}, "interrupt", "stopped")
    assert result.validation is None and x.value == 2


def test_the_run_folder_holds_what_the_report_reads(run, tmp_path):
    _x, workflow = quadratic()
    result = run(
        workflow,
        [2.0],
        feedback=lambda _, out: Feedback(out, "say"),
        optimizer=Fixed({"x": 9}, {"x": 2}),
        validation=[2.0],
    )
    folder = result.run_dir
    stored = read_json(folder / "result.json")
    assert stored["best"] == {"x": 2.0} and stored["validation"]["score"] == 0
    assert {"score", "baseline", "low", "high", "n"} <= stored["validation"].keys()
    assert stored["params"][0] | {"origin": None} == {
        "name": "x", "kind": "number", "description": "where", "before": 0.0, "after": 2.0, "origin": None,
    }  # fmt: skip
    rows = read_lines(folder / "metrics.jsonl")
    assert [(r["step"], r.get("invalid"), r.get("accepted")) for r in rows[:3]] == [
        (0, None, None),
        (1, 1, False),
        (2, 0, True),
    ]
    with Journal(folder / "journal.sqlite", read_only=True) as journal:
        evaluations = journal.rows("evaluation")
        assert [e["values"] for e in evaluations] == [{"x": 0.0}, {"x": 2.0}]
        assert evaluations[1]["accepted"] and evaluations[1]["texts"] == ["say"] and evaluations[1]["arm"] == "Fixed"
        assert [n["name"] for n in journal.rows("graph")[0]["nodes"]] == ["x", "height_1"]
    assert (result.run_dir / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_the_diff_is_a_patch_of_the_users_file(run, tmp_path):
    source = tmp_path / "program.py"
    source.write_text(
        "from engine import trace\n\n"
        'greeting = trace.param("hello", name="greeting")\n\n\n'
        "@trace.node\ndef say(greeting):\n    return greeting\n\n\n"
        "def workflow():\n    return say(greeting)\n"
    )
    from engine.gallery import load

    workflow = load(f"{source}:workflow")
    result = run(workflow, feedback=lambda _, out: len(out), optimizer=Fixed({"greeting": "good morning"}))
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=str(result.diff()).encode(), check=True)
    assert 'greeting = trace.param("good morning", name="greeting")' in source.read_text()


def test_auto_says_what_it_chose_and_why(run, capsys):
    text = trace.param("a", name="text")

    @trace.node
    def say(text):
        return text

    llm = ScriptedLLM(lambda messages: {"reasoning": "", "suggestion": {"text": "b"}})
    result = run(lambda: say(text), feedback=lambda _, out: 1.0, llm=llm, budget={"steps": 1}, run_dir=None)
    assert result.optimizer == "optoprime"
    assert "optimizer: optoprime: the recorded graph connects outputs with parameters" in capsys.readouterr().err
    llm = ScriptedLLM(lambda messages: "b")
    result = run(lambda: str(text), feedback=lambda _, out: 1.0, llm=llm, budget={"steps": 1}, run_dir=None)
    assert result.optimizer == "opro" and "neither text feedback nor a graph" in capsys.readouterr().err
    llm = ScriptedLLM(lambda messages: {"reasoning": "", "suggestion": {"text": "c"}})
    result = run(lambda: str(text), feedback=lambda _, out: "longer", llm=llm, budget={"steps": 1}, run_dir=None)
    assert result.optimizer == "optoprime" and "the feedback has texts" in capsys.readouterr().err


def test_auto_takes_numeric_for_numbers_and_no_model(run, capsys):
    _x, workflow = quadratic()
    result = run(workflow, [1.0], feedback=lambda _, out: out, budget={"steps": 1})
    assert result.optimizer == "numeric"
    assert "optimizer: numeric: all parameters are numbers or choices" in capsys.readouterr().err


def test_a_code_proposal_that_the_sandbox_cannot_run_is_refused_and_the_other_parameters_go_on(run):
    level = trace.param(0, name="level")

    @trace.node(trainable=True)
    def double(level):
        return 2 * level

    code = "def double(level):\n    return trace.off()"
    result = run(
        lambda: double(level),
        feedback=lambda _, out: out,
        optimizer=Fixed({"double": code}, {"level": 3}, {"level": 4}),
    )
    assert result.best["level"] == 4 and result.score == 8
    with Journal(result.run_dir / "journal.sqlite", read_only=True) as journal:
        assert (
            "double uses the module `engine.trace`, which the sandbox has not"
            in journal.rows("refused")[0][0]["reason"]
        )


def test_json_and_flag_parameters_and_several_at_once(run):
    rules = trace.param({"limit": 1}, name="rules")
    strict = trace.param(False, name="strict")

    @trace.node
    def check(rules, strict):
        return rules["limit"] + strict

    optimizer = Fixed({"rules": {"limit": 3}, "strict": "true"}, {"strict": "maybe"})
    result = run(lambda: check(rules, strict), feedback=lambda _, out: out, optimizer=optimizer)
    assert result.best == {"rules": {"limit": 3}, "strict": True} and result.score == 4
    assert json.loads((result.run_dir / "result.json").read_text())["best"] == result.best


def test_two_parameters_of_one_name_are_refused(run):
    a, b = trace.param(1, name="same"), trace.param(2, name="same")
    with pytest.raises(InputError, match=r"two parameters are called 'same'"):
        run(lambda: a + b, feedback=lambda _, out: out, optimizer=Fixed())


def test_an_optimizer_may_work_from_other_values_than_the_held_ones(run):
    class FromTheStart(Fixed):
        needs = frozenset({"score", "graph"})

        def parent(self, state):
            assert not state.trajectories
            return state.history[0].candidate.values

    x, y = trace.param(0.0, name="x"), trace.param(7.0, name="y")

    @trace.node
    def add(x: float, y: float, example: float) -> float:
        return x + y + example

    optimizer = FromTheStart({"x": 1.0, "y": 8.0}, {"x": 1.5})
    result = run(lambda e: add(x, y, e), [0.5, 0.25], feedback=lambda _, out: out, optimizer=optimizer)
    second = optimizer.states[1]
    assert second.current == {"x": 0.0, "y": 7.0}
    assert [t.output for t in second.trajectories] == ["7.25", "7.5"]  # of the values it works from, worst first
    assert all(t.subgraph is not None for t in second.trajectories)
    # What a candidate leaves out is filled from there, and it is compared with the held values: 1.5 + 7 < 1 + 8.
    assert result.history[2].candidate.values == {"x": 1.5, "y": 7.0}
    assert [e.accepted for e in result.history] == [False, True, False] and result.best == {"x": 1.0, "y": 8.0}
