"""What the model is shown, what its answers give, and whether it gets anywhere."""

from __future__ import annotations

import builtins
import itertools
import json
import os
import random
import re
from statistics import fmean

import pytest

from engine import Budget, Feedback, optimize, optimizers, trace
from engine.acceptance import bootstrap_interval
from engine.budget import LimitReached
from engine.errors import Stopped
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, State, Trajectory
from engine.optimizers.base import values_key
from engine.ranking import ProgramRanker


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)


@trace.node(trainable=True)
def largest(xs):
    best = 0
    for x in xs:
        if x > best:
            best = x
    return best


@trace.node(trainable=True)
def other(xs):
    return xs[:1]


SOURCE = largest.code.value
FIXED = SOURCE.replace("best = 0", "best = xs[0]")


def block(search, replace, name=""):
    return f"<<<<<<< SEARCH{name}\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"


def evaluation(values, *scores, step=0, text="wrong"):
    feedback = tuple(Feedback(s, text) for s in scores)
    return Evaluation(
        Candidate(values), tuple(range(len(scores))), feedback, step=step, failed=tuple(False for _ in scores)
    )


def state(llm=None, params=None, history=None, step=1, trajectories=(), notes=None, seed=0):
    params = params or [largest.code]
    values = {p.name: p.value for p in params}
    history = history or [evaluation(values, 0.5)]
    return State(
        params, values, list(trajectories), history, llm, random.Random(seed), step=step, objective="Find the largest.",
        initial=values, notes=notes or {},
    )  # fmt: skip


def evolve(**options):
    return optimizers.make({"kind": "evolve", **options})


def proposed(answers, params=None, **options):
    llm = ScriptedLLM(answers if isinstance(answers, list) else [answers])
    n = len(answers) if isinstance(answers, list) and not options.get("repair", True) else 1
    return evolve(**options).propose(state(llm, params), n), llm


def test_the_prompt_shows_source_limits_score_worst_runs_and_others_with_their_feedback():
    values = {"largest": SOURCE}
    others = {"largest": FIXED.replace("x > best", "x < best")}, {"largest": SOURCE.replace("= 0", "= 7")}
    history = [
        evaluation(values, 0.5, 0.0),
        evaluation(others[0], 1.0, 0.0, step=1, text="smallest instead"),
        evaluation({"largest": "another island's"}, 1.0, 1.0, step=2),
        evaluation(others[1], 0.0, 0.25, step=4, text="always seven"),
    ]
    llm = ScriptedLLM([block("best = 0", "best = xs[0]")])
    shown = [Trajectory("[-3, -1]", "0", Feedback(0.0, "it should be -1"))]
    (found,) = evolve(islands=3).propose(state(llm, history=history, step=7, trajectories=shown), 1)
    assert found.values == {"largest": FIXED}
    system, user = llm.calls[0].messages
    assert "<<<<<<< SEARCH" in system["content"] and "another island's" not in user["content"]
    parts = dict(re.findall(r"^#(\w+)\n(.*?)(?=\n\n#|\Z)", user["content"], re.DOTALL | re.MULTILINE))
    assert user["content"].startswith("Find the largest.\n\n#Source")
    assert list(parts) == ["Source", "Limits", "Score", "Runs", "Others"]
    assert f"```python\n{SOURCE}```" in parts["Source"] and "def largest(xs)" in parts["Limits"]
    assert parts["Score"] == "score 0.25"
    assert "example = [-3, -1]" in parts["Runs"] and "feedback = score 0: it should be -1" in parts["Runs"]
    assert parts["Others"].index("version 1: score 0.5: smallest instead") < parts["Others"].index(
        "version 2: score 0.125: always seven"
    )
    assert all(values["largest"] in parts["Others"] for values in others)


def test_long_texts_are_cut_with_a_mark_and_the_source_never_is():
    text = trace.param("\n".join(f"line {i}" for i in range(500)), name="text")
    history = [evaluation({"text": text.value}, 0.5), evaluation({"text": "w" * 4000}, 0.1, step=1, text="f" * 3000)]
    llm = ScriptedLLM([block("line 3", "line three")])
    (found,) = evolve(max_value_characters=100).propose(state(llm, [text], history, step=3), 1)
    prompt = llm.calls[0].messages[-1]["content"]
    assert text.value in prompt and prompt.count("more characters]") == 2
    assert found.values["text"].split("\n")[3:5] == ["line three", "line 4"]


def test_refused_answers_are_shown_where_they_cannot_be_another_islands():
    notes = {"refused": ["{}: block 1 matches nothing"]}
    for count, is_shown in ((1, True), (2, False)):
        llm = ScriptedLLM([block("best = 0", "best = xs[0]")])
        evolve(islands=count).propose(state(llm, notes=notes), 1)
        assert ("block 1 matches nothing" in llm.calls[0].messages[-1]["content"]) is is_shown


@pytest.mark.parametrize(
    "answer",
    [
        f"Negative numbers are all below 0.\n\n```python\n{block('    best = 0', '    best = xs[0]')}\n```",
        f"<think>{block('return best', 'return 0')}</think>{block('best = 0', 'best = xs[0]')}",
        f"Anew:\n```python\n{FIXED}```",
        FIXED,
    ],
)
def test_blocks_and_whole_functions_are_taken(answer):
    (found,), llm = proposed(answer)
    assert found.values == {"largest": FIXED} and not found.fault and len(llm.calls) == 1
    if answer.startswith("Neg"):
        assert found.reason == "Negative numbers are all below 0."


BAD = {
    block("best = 1", "best = 2"): "block 1 matches nothing",
    block("    best = 0", "    best = ="): "not Python at line 2",
    block("def largest(xs):", "def largest(xs, ys):"): "parameters changed",
    "<<<<<<< SEARCH\n    best = 0\n=======\n    best": "no >>>>>>> REPLACE",
    "<think>I could": "cut off while thinking",
    "I cannot do that.": "no SEARCH/REPLACE block",
    "": "no SEARCH/REPLACE block",
    "def largest(xs):\n    return max(xs)\nprint(1)": "not one function",
}


@pytest.mark.parametrize("bad", BAD)
def test_an_answer_that_cannot_be_used_is_asked_for_once_more_with_the_fault(bad):
    good = block("best = 0", "best = xs[0]")
    (mended,), llm = proposed([bad, good])
    assert mended.values == {"largest": FIXED}
    *before, said, told = llm.calls[1].messages
    assert before == list(llm.calls[0].messages) and said["content"] == bad and BAD[bad] in told["content"]
    (fault,), llm = proposed([bad, bad])
    assert BAD[bad] in fault.fault and not fault.values and len(llm.calls) == 2
    (fault, other), llm = proposed([bad, good], repair=False)
    assert BAD[bad] in fault.fault and other.values == {"largest": FIXED} and len(llm.calls) == 1


def test_a_budget_that_ends_before_the_repair_loses_nothing():
    good = block("best = 0", "best = xs[0]")
    answers = iter([good, "no", LimitReached("calls", "the calls are spent")])
    llm = ScriptedLLM(lambda messages: next(answers))
    usable, fault = evolve().propose(state(llm), 2)
    assert usable.values == {"largest": FIXED} and "no SEARCH/REPLACE block" in fault.fault


def test_parameters_of_every_kind_are_edited():
    params = [
        largest.code,
        trace.param("first line\nsecond line", name="text"),
        trace.param(0.5, name="number", ge=0, le=1),
        trace.param({"a": [1, 2]}, name="json"),
        trace.param("red", name="choice", choices=["red", "blue"]),
        trace.param(True, name="flag"),
    ]
    answer = "\n".join(
        [block("0.5", "0.25", " number"), block("second line", "last line"), block("[1, 2]", "[1, 2, 3]"),
         block("red", "blue"), block("true", "false"), block("best = 0", "best = xs[0]")]
    )  # fmt: skip
    (found,), llm = proposed(answer, params)
    assert found.values == {
        "largest": FIXED, "text": "first line\nlast line", "number": 0.25, "json": {"a": [1, 2, 3]}, "choice": "blue",
        "flag": False,
    }  # fmt: skip
    prompt = llm.calls[0].messages[-1]["content"]
    assert "(text) text =\n```\nfirst line\nsecond line\n```" in prompt and "(number) number = 0.5" in prompt
    (fault,), _ = proposed(block("0.5", "1.5"), params, repair=False)
    assert "1.5" in fault.fault
    (fault,), _ = proposed("Two functions: def f(): 1", [largest.code, other.code], repair=False)
    assert fault.fault.endswith("is none of largest, other")
    (found,), _ = proposed(other.code.value.replace("1", "2"), [largest.code, other.code])
    assert found.values == {"other": "def other(xs):\n    return xs[:2]\n"}
    (fault,), _ = proposed("I would write better words.", params[1:], repair=False)
    assert fault.fault == "the answer has no SEARCH/REPLACE block"


PARTS, VALUES = 5, 3
START = "\n".join(f"part {i} is 1" for i in range(PARTS))


def mechanic(seed):
    """Sets one of five parts of the source that it is shown to a value drawn from three, one of them right (0)."""
    rngs = (random.Random(f"{seed}/{i}") for i in itertools.count())

    def answer(messages):
        rng = next(rngs)
        source = messages[-1]["content"].partition("#Source")[2].partition("#")[0]
        line = re.findall(rf"part {rng.randrange(PARTS)} is \d", source)[0]
        return block(line, f"{line[:-1]}{rng.randrange(VALUES)}")

    return ScriptedLLM(answer)


def right_parts(seed, folder, optimizer):
    """How many of the parts are right in the best version that was found."""
    text = trace.param(START, name="text")

    def solved(report):
        if any(e.score == 1.0 for e in report.evaluations):
            raise Stopped("solved")

    result = optimize(
        lambda part: text.value.split("\n")[part],
        list(range(PARTS)),
        feedback=lambda part, line: float(line.endswith("0")),
        optimizer=optimizer,
        llm=mechanic(seed),
        budget=Budget(evaluations=80, invalid=400, steps=80),
        callbacks=[solved],
        workers=1,
        seed=seed,
        run_dir=folder,
    )
    return round(PARTS * max(e.score for e in result.history))


def test_five_faults_are_mended_one_after_the_other_but_not_by_who_reads_the_scores_of_others(tmp_path):
    seeds = range(10)
    own = [right_parts(seed, tmp_path / f"own-{seed}", "evolve") for seed in seeds]
    blind = [right_parts(seed, tmp_path / f"blind-{seed}", {"kind": "placebo", "of": "evolve"}) for seed in seeds]
    assert own.count(PARTS) >= 9 and blind.count(PARTS) <= 1, (own, blind)
    assert bootstrap_interval([a - b for a, b in zip(own, blind, strict=True)]).low > 0.5


def appending():
    """Adds a letter of its own to the text that it is shown, so that a version tells where it comes from."""
    letters = (chr(i) for i in itertools.count(0x4E00))

    def answer(messages):
        text = messages[-1]["content"].partition("```\n")[2].partition("\n```")[0]
        return block(text, text + next(letters))

    return ScriptedLLM(answer)


@pytest.mark.parametrize("optimizer", ["evolve", "placebo"])
def test_in_the_loop_islands_do_not_mix_before_the_first_migration_and_do_after_it(optimizer, tmp_path):
    text, options = trace.param("s", name="text"), {"kind": "evolve", "islands": 3, "migrate_every": 9, "candidates": 2}
    result = optimize(
        lambda: len(text.value),
        feedback=lambda _, length: float(length),
        optimizer=options if optimizer == "evolve" else {"kind": "placebo", "of": options},
        llm=appending(),
        budget=Budget(steps=30, evaluations=100, invalid=100),
        workers=1,
        run_dir=tmp_path / "run",
    )
    step_of = {e.candidate.values["text"]: e.step for e in result.history}
    assert len(step_of) == 61
    moves = [(step_of[text[:-1]], step) for text, step in step_of.items() if step and step_of[text[:-1]]]
    crossed = [(before, after) for before, after in moves if (after - before) % 3]
    assert crossed and all(after > 9 for _, after in crossed), crossed
    assert any(after <= 9 for _, after in moves)
    if optimizer == "evolve":  # one island far in a migration, and a migration each nine steps
        assert all((after - before) % 3 == 1 or after > 18 for before, after in crossed)


@trace.node(trainable=True, timeout_s=1.0)
def shout(text):
    return text.lower()


def test_code_that_does_harm_is_never_run_in_this_process(tmp_path, monkeypatch):
    """What it writes stays in the sandbox, what it raises is feedback, and what it may not import is refused."""
    file = tmp_path / "written"
    monkeypatch.delenv("EVOLVED", raising=False)
    harm = [
        f"    open({str(file)!r}, 'w').write('x')\n    return text.upper()",
        "    import os\n    os.environ['EVOLVED'] = '1'\n    return text.upper()",
        "    __import__('os')._exit(3)",
        "    raise SystemExit(3)",
        "    import builtins\n    builtins.evolved = 1\n    return text.upper()",
        "    while True: pass",
    ]
    answers = iter([*(block("    return text.lower()", lines) for lines in harm), "and no more"])
    before = shout.code.value
    try:
        result = optimize(
            shout,
            ["a", "b"],
            feedback=lambda text, out: float(out == text.upper()),
            optimizer={"kind": "evolve", "islands": 1, "candidates": len(harm), "repair": False},
            llm=ScriptedLLM(lambda messages: next(answers)),
            budget=Budget(steps=1, evaluations=20),
            workers=2,
            run_dir=tmp_path / "run",
        )
    finally:
        shout.code.set(before)
    assert not file.exists() and "EVOLVED" not in os.environ and not hasattr(builtins, "evolved")
    tried = [e for e in result.history if e.step]
    assert len(tried) >= 4 and not any(e.accepted for e in tried if any(e.failed))


LONG = "def long(xs):\n" + "".join(f"    a{i} = len(xs) + {i}\n" for i in range(118)) + "    return a7 + 1\n"
lengthy = trace.Param(LONG, name="long", kind="code")


def test_an_edit_of_a_long_function_costs_fewer_tokens_than_writing_it_anew(tmp_path):
    """The same three improvements, told as a block to `evolve` and as the whole function to `optoprime`."""
    assert LONG.count("\n") == 120

    def cost(optimizer, told):
        count = itertools.count(1)
        result = optimize(
            lambda: int(re.findall(r"a7 \+ (\d)", lengthy.value)[0]),
            feedback=lambda _, out: float(out),
            optimizer={"kind": optimizer, "candidates": 1},
            llm=ScriptedLLM(lambda messages: told(messages[-1]["content"], next(count))),
            budget=Budget(evaluations=3),
            accept="better",
            workers=1,
            run_dir=tmp_path / optimizer,
        )
        lengthy.set(LONG)
        assert result.cost.evaluations == result.cost.calls == 3 and result.score == 4.0
        return result.cost.completion_tokens

    def edit(prompt, step):
        (shown,) = re.findall(r"return a7 \+ \d", prompt.partition("#Limits")[0])
        return block(f"    {shown}", f"    return a7 + {step + 1}")

    def whole(prompt, step):
        return {"reasoning": "", "suggestion": {"long": LONG.replace("a7 + 1", f"a7 + {step + 1}")}}

    assert 20 * cost("evolve", edit) < cost("optoprime", whole)


def test_a_run_that_is_stopped_and_goes_on_has_the_history_of_one_that_was_not(tmp_path):
    """Nothing is stored but the history: what an island is, and who was drawn, comes out the same."""

    def run(folder, *steps):
        for until in steps:
            text = trace.param("s", name="text")
            result = optimize(
                lambda example, text=text: len(text.value) * example,
                [1, 2, 3],
                feedback=lambda example, length: Feedback(length + example / 7, "go on"),
                optimizer={"kind": "evolve", "migrate_every": 4, "population": 3},
                llm=ScriptedLLM(digits),
                budget=Budget(steps=until, evaluations=200, invalid=200),
                batch_size=2,
                workers=2,
                run_dir=tmp_path / folder,
            )
        return [(values_key(e.candidate.values), e.step, e.scores, e.accepted) for e in result.history]

    whole = run("whole", 12)
    assert run("parts", 1, 5, 6, 12) == whole and len(whole) > 10


def digits(messages):
    """An edit that depends on all that is shown."""
    text = messages[-1]["content"].partition("```\n")[2].partition("\n```")[0]
    return block(text, f"{text[-30:]}{random.Random(str(messages)).randrange(1000)}")


def test_its_state_is_the_history():
    assert json.loads(json.dumps(evolve().state_dict())) == {}


@trace.node(trainable=True, timeout_s=2.0)
def change(n):
    fifties = n // 5
    twenties = n % 5 // 2
    tens = n % 5 // 10
    fives = n % 1 // 5
    ones = n % 50
    return [fifties, twenties, tens, fives, ones]


RIGHT = ["n // 50", "n % 50 // 20", "n % 50 % 20 // 10", "n % 10 // 5", "n % 5"]
COINS = [50, 20, 10, 5, 1]


def cashier(seed):
    """Writes the expression of one line of `change` anew; every second time the right one, else one of another line."""
    rngs = (random.Random(f"{seed}/{i}") for i in itertools.count())

    def answer(messages):
        rng = next(rngs)
        shown = re.findall(r"^    \w+ = .*$", messages[-1]["content"].partition("#Limits")[0], re.MULTILINE)
        at = rng.randrange(5)
        new = RIGHT[at] if rng.random() < 0.5 else rng.choice(RIGHT)
        return f"It is line {at}.\n{block(shown[at], shown[at].partition('= ')[0] + '= ' + new)}"

    return ScriptedLLM(answer)


def coins_given(n):
    """The fewest coins, the largest first; counted one by one."""
    found = []
    for coin in COINS:
        found.append(0)
        while n >= coin:
            n, found[-1] = n - coin, found[-1] + 1
    return found


def test_a_function_with_five_bugs_is_repaired_in_the_sandbox(tmp_path):
    before = change.code.value

    def judge(n, counts):
        return fmean(count == right for count, right in zip(counts, coins_given(n), strict=True))

    try:
        result = optimize(
            change,
            [5, 17, 68, 99],
            feedback=judge,
            optimizer="evolve",
            llm=cashier(0),
            budget=Budget(evaluations=50, invalid=200),
            accept="better",
            workers=4,
            run_dir=tmp_path / "run",
        )
        assert result.baseline < 0.7 and result.score == 1.0
        assert [line.partition(" = ")[2] for line in result.best["change"].split("\n")[1:6]] == RIGHT
        assert change.code.author == "model"
    finally:
        change.code.set(before)


@pytest.mark.parametrize("kind", ["evolve", {"kind": "pareto", "of": "evolve", "merge": 1}])
def test_where_a_ranker_judges_it_runs_and_compares_nothing_across_steps(kind, tmp_path):
    text = trace.param("s", name="text")
    result = optimize(
        lambda example: text.value,
        [1],
        feedback=ProgramRanker(lambda items, question: {i: len(shown) for i, shown in items.items()}),
        optimizer=kind,
        llm=appending(),
        budget=Budget(steps=6, evaluations=12),
        workers=1,
        run_dir=tmp_path / "run",
    )
    assert len(result.history) == 13 and len(result.best["text"]) > 2
    assert not any(e.candidate.reason == "merged" for e in result.history)
