"""optimize() against a faulty endpoint: no crash, no invalid candidate run, no budget exceeded, an end in time."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Budget, Feedback, Result, optimize, optimizers, trace
from engine.errors import LLMUnavailable
from engine.jsonfiles import read_json
from engine.llm import OpenAILLM, ScriptedLLM
from engine.testing import FAULTS, Proposer, Server, random_values
from engine.testing.draft import count_tokens
from engine.testing.faults import CANARY

KEY = "sk-very-secret-0123456789"
TARGETS = {
    "x": 0.7, "k": 7, "mode": "b", "on": True, "hint": "think first check answer", "shape": {"a": [1, 2]},
    "combine": "def combine(a, b):\n    return a + b\n",
}  # fmt: skip
ASKS = {"combine": "the Python function `def combine(a, b)`"}
ASKING = [name for name in optimizers.names() if optimizers.make(name).needs_llm]
"""The optimizers that propose with a language model whatever the parameters are; `rank` does so for some."""


@pytest.fixture
def usual(spec: Callable[[str], dict[str, Any]]) -> Callable[[str], Any]:
    """An optimizer as it is by default, but that `instinct` reads a tiny model."""
    return lambda name: spec(name) if name == "instinct" else name


def violations(values: tuple[Any, ...]) -> list[str]:
    """What is wrong with values that a candidate was run with."""
    x, k, mode, on, hint, shape = values
    checks = {
        "x": type(x) is float and 0 <= x <= 1,
        "k": type(k) is int and 0 <= k <= 9,
        "mode": mode in ("a", "b", "c"),
        "on": type(on) is bool,
        "hint": type(hint) is str and hint.isprintable() and 0 < len(hint) < 5000,
        "shape": type(shape) is dict,
    }
    return [f"{name} in {values!r:.300}" for name, is_right in checks.items() if not is_right]


class Watched:
    """A program with a parameter of every kind, that keeps what it was run with."""

    def __init__(self, *, has_code: bool) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.params = [
            trace.param(0.0, name="x", ge=0, le=1),
            trace.param(3, name="k", ge=0, le=9),
            trace.param("a", name="mode", choices=["a", "b", "c"]),
            trace.param(False, name="on"),
            trace.param("answer", name="hint"),
            trace.param({"a": [0]}, name="shape"),
        ]

        @trace.node(trainable=True)
        def combine(a, b):
            return a

        @trace.node
        def judge(x, k, mode, on, hint, shape, example):
            self.seen.append((x, k, mode, on, hint, shape))
            words = set(hint.split()) & set(TARGETS["hint"].split())
            return -abs(x - 0.7) - abs(k - 7) / 10 + (mode == "b") + on + len(words) / 4 - example / 100

        self.combine, self.judge = combine if has_code else None, judge

    def __call__(self, example: int) -> Any:
        score = self.judge(*self.params, example)
        return score if self.combine is None else self.combine(score, 0.5)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)  # where unsafe code would leave its canary

    def call(
        optimizer: Any,
        faults: Any,
        *,
        seed: int = 0,
        timeout_s: float = 5.0,
        retries: int = 5,
        has_code: bool = False,
        **budget: Any,
    ) -> tuple[Result | LLMUnavailable, Server, Watched]:
        watched = Watched(has_code=has_code)
        skill = Proposer(TARGETS, asks=ASKS, p=0.7)
        with Server(skill, faults=faults, seed=seed, hang_s=1.0, drip_s=0.02, retry_after_s=0.01) as server:
            llm = OpenAILLM("test", server.url, KEY, timeout_s=timeout_s, max_retries=retries)
            try:
                result: Any = optimize(
                    watched,
                    [1, 2, 3],
                    feedback=lambda _, out: Feedback(out, f"it is {out:.2f}"),
                    optimizer=optimizer,
                    llm=llm,
                    budget=Budget(**budget),
                    run_dir=tmp_path / "run",
                    accept="better",
                    workers=2,
                    seed=seed,
                )
            except LLMUnavailable as error:
                result = error
        assert [text for values in watched.seen for text in violations(values)] == []
        assert list(tmp_path.rglob(CANARY)) == [], "code of the model was run in this process"
        assert not any(KEY.encode() in path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
        return result, server, watched

    return call


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("optimizer", [*ASKING, "rank"])
def test_twenty_percent_faults_do_no_harm(run: Any, usual: Any, optimizer: str, seed: int) -> None:
    result, server, _ = run(usual(optimizer), 0.2, seed=seed, has_code=seed == 3, evaluations=12, invalid=60, calls=120)
    assert isinstance(result, Result) and result.status == "done"
    assert result.stopped_by in ("evaluations", "invalid", "calls") and result.score >= result.baseline
    assert result.cost.calls == server.answered <= 120
    assert result.cost.evaluations == len(result.history) - 1 <= 12 and result.cost.invalid <= 60


@pytest.mark.parametrize("optimizer", ["optoprime", "evolve", "pareto"])
def test_a_proposer_that_improves_is_of_use_in_spite_of_the_faults(run: Any, optimizer: str) -> None:
    result, server, _ = run(optimizer, 0.2, seed=7, evaluations=20)
    assert sum(server.counts.values()) >= 2 and result.score > result.baseline + 1.5  # of 3.8 that are to be gained


@pytest.mark.parametrize("optimizer", ASKING)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_every_answer_ends_the_run_in_time(run: Any, usual: Any, optimizer: str, fault: str) -> None:
    timeout_s = 0.1 if fault == "hang" else 5.0
    result, server, watched = run(
        usual(optimizer), {fault: 1.0}, retries=1, timeout_s=timeout_s, evaluations=2, invalid=4, calls=60
    )
    if FAULTS[fault].is_connection:
        assert isinstance(result, LLMUnavailable)
        assert read_json(Path("run") / "status.json")["summary"]["error"].startswith("LLMUnavailable: ")
        assert len(set(map(str, watched.seen))) == 1, "nothing but the start was run"
    else:
        assert result.stopped_by in ("evaluations", "invalid", "calls") and result.score >= result.baseline
        assert result.cost.calls == server.answered and result.cost.invalid <= 4


@pytest.mark.parametrize(
    "budget",
    [{"calls": 1}, {"calls": 6}, {"calls": 11}, {"tokens": 2500}, {"tokens": 6001}, {"invalid": 3}, {"invalid": 7},
     {"evaluations": 5}, {"runs": 20}, {"steps": 3}],
    ids=lambda budget: "-".join(map(str, *budget.items())),
)  # fmt: skip
@pytest.mark.parametrize("optimizer", ["optoprime", "opro", "best_of_n"])
def test_no_budget_is_exceeded(run: Any, optimizer: str, budget: dict[str, Any]) -> None:
    # Nobody can keep a budget of tokens with a server that does not keep max_tokens: see the next test.
    names = [name for name, fault in FAULTS.items() if name != "endless_answer"]
    options = {"kind": optimizer, "candidates": random.Random(str(budget)).choice([1, 3, 4])}
    result, server, watched = run(
        options, {name: 0.3 / len(names) for name in names}, seed=1, **{"evaluations": 30, "invalid": 90, **budget}
    )
    cost = result.cost
    used = sum(
        count_tokens("".join(str(m["content"]) for m in call.request["messages"]))
        + sum(count_tokens(text or "") for text in call.texts)
        for call in server.calls
        if call.is_answered
    )
    spent = {**vars(cost), "tokens": cost.prompt_tokens + cost.completion_tokens}
    seen = {**spent, "calls": server.answered, "tokens": used, "evaluations": len(result.history) - 1}
    for name, limit in budget.items():
        assert spent[name] <= limit and seen[name] <= limit
        assert result.stopped_by in (name, "evaluations")
    assert cost.calls == server.answered and len(watched.seen) <= cost.runs


def test_a_server_that_ignores_max_tokens_overspends_by_one_call_at_most(run: Any) -> None:
    result, server, _ = run("optoprime", {"endless_answer": 0.2}, seed=2, tokens=20_000, evaluations=40)
    texts = [call.fault for call in server.calls]
    assert result.stopped_by == "tokens" and texts.count("endless_answer") == 1 and texts[-1] == "endless_answer"


def test_unsafe_code_is_run_in_the_sandbox_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @trace.node(trainable=True)
    def double(number):
        return number

    skill = Proposer({"double": "def double(number):\n    return 2 * number\n"}, p=1.0)
    with Server(skill, faults={"unsafe_code": 0.5}, seed=0) as server:
        result = optimize(
            lambda example: double(example),
            [1, 2],
            feedback=lambda example, out: Feedback(float(out == 2 * example), "twice as much is wanted"),
            optimizer={"kind": "optoprime", "candidates": 2},
            llm=OpenAILLM("test", server.url),
            budget=Budget(evaluations=8, steps=8),
            run_dir=tmp_path / "run",
        )
        assert server.counts["unsafe_code"] >= 2 and result.score == 1
    assert list(tmp_path.rglob(CANARY)) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_program_that_asks_a_faulty_model_itself_is_evaluated_to_the_end(tmp_path: Path, seed: int) -> None:
    tone = trace.param("", name="tone")
    schema = {"type": "object", "properties": {"mark": {"type": "integer", "minimum": 0, "maximum": 9}},
              "required": ["mark"], "additionalProperties": False}  # fmt: skip
    with Server(random_values, faults=0.2, seed=seed, hang_s=1.0, drip_s=0.02, retry_after_s=0.01) as server:
        llm = OpenAILLM("test", server.url, timeout_s=5.0, max_retries=5)

        @trace.node
        def marked(tone, example):
            answer = llm.complete([{"role": "user", "content": f"{tone} {example}"}], schema=schema, seed=1)
            return answer.parsed[0]["mark"]

        result = optimize(
            lambda example: marked(tone, example),
            list(range(12)),
            feedback=lambda _, mark: mark,
            optimizer="opro",
            llm=ScriptedLLM([f"tone {number}" for number in range(100)]),
            budget=Budget(evaluations=6, invalid=40, steps=20),
            run_dir=tmp_path / "run",
            workers=8,
            accept="better",
        )
    failed = [is_failed for e in result.history for is_failed in e.failed]
    marks = [mark for e in result.history for mark in e.scores if mark is not None]
    assert sum(server.counts.values()) > 5 and set(marks) <= set(range(10))
    # An answer that stays malformed is a failed run of the program, and says so.
    texts = {f.text for e in result.history for f, is_failed in zip(e.feedback, e.failed, strict=True) if is_failed}
    assert sum(failed) < len(failed) / 4 and all("malformed" in text for text in texts)


def test_several_parameters_are_asked_for_at_the_same_time(tmp_path: Path) -> None:
    @trace.node
    def total(x, y, z):
        return x + y + z

    def run(name: str, latency_s: float) -> tuple[Server, list[Any]]:
        params = [trace.param(0.0, name=name, ge=0, le=1) for name in ("x", "y", "z")]
        with Server(Proposer({"x": 1.0, "y": 1.0, "z": 1.0}), latency_s=latency_s) as server:
            llm = OpenAILLM("test", server.url)
            budget = Budget(evaluations=None, steps=2)
            result = optimize(
                lambda: total(*params),
                feedback=lambda _, out: out,
                optimizer="opro",
                llm=llm,
                budget=budget,
                run_dir=tmp_path / name,
                accept="better",
            )
        return server, [e.candidate.values for e in result.history]

    server, history = run("slow", 0.3)
    assert server.most_at_once == 3 and len(server.calls) == 6
    assert run("fast", 0.0)[1] == history, "the order of answers changes nothing"
