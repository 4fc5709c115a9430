"""Code from proposal to patch: where its lines run, what a killed run keeps, what the report and git make of it."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.errors import Stopped
from engine.journal import Journal
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Optimizer

MARK = "line of a proposal 4711"
numbers = itertools.count()

PROGRAM = '''"""A program that a user wrote."""
from engine import trace

SCALE = 10


class Parser:
    """Holds a static function."""

    @staticmethod
    @trace.node(  # comments of decorators stay
        trainable=True,
        timeout_s=5.0,
    )
    def parse(text: str, base: int = 10) -> int:
        """The number that stands last."""
        return 0  # wrong


# between


@trace.node(trainable=True)
def scale(x):
    return x


def workflow(text):
    return scale(Parser.parse(text))
'''
PARSE = f'''def parse(text: str, base: int = 10) -> int:
    """The number that stands last."""
    "{MARK}"
    # a comment of the model, with "quotes", \\\\ and 'é'
    return int(text.split()[-1], base)
'''
SCALE = f'def scale(x):\n    "{MARK}"\n    return x * SCALE\n'
DATA = [f"{words} {n}" for n, words in enumerate(["it is", "I say", "that makes", "so"] * 2, start=1)]


def load(path):
    spec = importlib.util.spec_from_file_location(f"user_{next(numbers)}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The user's program, loaded from a file in a repository, which is the working folder."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return load(path)


def judge(text, output):
    wanted = 10 * int(text.split()[-1])
    return Feedback(float(output == wanted), f"wanted {wanted}, got {output!r:.60}")


class Fixed(Optimizer):
    """Proposes what it was given, one step after the other."""

    needs_llm = False

    def __init__(self, *steps):
        super().__init__()
        self.steps = list(steps)

    def propose(self, state, n):
        return [Candidate(values) for values in self.steps[state.step - 1]] if state.step <= len(self.steps) else []


def improve(program, folder, *steps, **options):
    return optimize(
        program.workflow,
        DATA,
        feedback=judge,
        **{"optimizer": Fixed(*steps), "budget": Budget(steps=len(steps)), "run_dir": folder, "workers": 4, **options},
    )


def test_found_code_is_set_runs_in_the_sandbox_and_is_written_back_by_git(program, tmp_path):
    """The issue's way from end to end, by the default paired test."""
    broken = PARSE.replace("[-1]", "[99]")
    steps = [{"parse": broken, "scale": SCALE}], [{"parse": PARSE, "scale": SCALE}, {"scale": "def scale(y): return y"}]
    result = improve(program, tmp_path / "run", *steps)
    assert result.score == 1.0 and result.best == {"parse": PARSE, "scale": SCALE}
    assert result.history[1].failed == (True,) * 8
    assert "IndexError: list index out of range\n  in parse, line 5: return int(" in result.history[1].feedback[0].text
    codes = program.Parser.parse.code, program.scale.code
    assert [code.author for code in codes] == ["model"] * 2
    assert program.workflow("it is 7") == 70
    diff = result.diff()
    assert not diff.skipped
    (tmp_path / "change.patch").write_bytes(diff.text.encode())
    done = subprocess.run(["git", "apply", "change.patch"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "program.py").read_text()
    indented = PARSE.replace("\n", "\n    ").rstrip()
    assert written == PROGRAM.replace(
        PROGRAM[PROGRAM.index("def parse") : PROGRAM.index("\n\n\n# between")], indented
    ).replace("def scale(x):\n    return x\n", SCALE)
    again = load(tmp_path / "program.py")
    assert again.workflow("it is 7") == 70 and again.scale.code.author == "user"
    assert result.diff().text == ""


def test_a_file_that_was_edited_meanwhile_is_left_alone(program, tmp_path):
    result = improve(program, tmp_path / "run", [{"parse": PARSE, "scale": SCALE}])
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("return x\n", "return x + 1\n"))
    assert "no longer holds the source that the run began with" in result.diff().skipped["scale"]
    assert "+        return int(text.split()[-1], base)" in result.diff().text


class Detector:
    """Notes every Python function of this process whose code holds the mark of a proposal, in all threads."""

    def __init__(self):
        self.found = []

    def __enter__(self):
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *exception):
        sys.setprofile(None)
        threading.setprofile(None)

    def __call__(self, frame, event, argument):
        code = frame.f_code
        if event == "call" and (MARK in code.co_filename or MARK in code.co_name or holds_mark(code)):
            self.found.append((code.co_name, os.getpid()))


def holds_mark(code):
    constants = code.co_consts
    return any(MARK in c if type(c) is str else hasattr(c, "co_consts") and holds_mark(c) for c in constants)


def evidence(place):
    """Code that would leave the number of the process that it runs in."""
    return (
        f'def parse(text: str, base: int = 10, *, _="{MARK}") -> int:\n    return 0\n',
        f'@print("{MARK}")\ndef parse(text: str, base: int = 10) -> int:\n    "{MARK}"\n'
        f"    try: open({str(place)!r}, 'w').write('here')\n    except OSError: pass\n"
        f"    return int(text.split()[-1]) + {os.getpid()} - __import__('os').getpid()\n",
        f'def parse(text: str, base: int = 10) -> int:\n    "{MARK}"\n'
        "    return (lambda: int(text.split()[-1]) / 0)()\n",
        f'def parse(text: str, base: int = 10) -> "{MARK}":\n    def inner(x="{MARK}"): return int(x)\n'
        f'    class Inner:\n        "{MARK}"\n        value = inner(text.split()[-1])\n    return Inner.value\n',
        PARSE,
    )


def test_no_line_that_a_model_wrote_runs_in_this_process_until_the_user_adopts_it(program, tmp_path):
    place = tmp_path / "evidence"
    llm = ScriptedLLM([{"reasoning": "", "suggestion": {"parse": text, "scale": SCALE}} for text in evidence(place)])
    with Detector() as detector:
        result = improve(
            program,
            tmp_path / "run",
            optimizer="optoprime",
            llm=llm,
            budget=Budget(steps=5, invalid=20),
            validation=DATA,
        )
        assert program.workflow("it is 7") == 70  # afterwards too, and in a recording
        with trace.record():
            assert program.workflow("it is 8").value == 80
        result.diff()
    assert result.score == 1.0 and len(result.history) == 5 and detector.found == []
    assert not place.exists()
    outputs = {output for evaluation in result.history for output in evaluation.outputs}
    assert not {str(10 * n) for n in range(1, 9)} - outputs  # they did run
    with Detector() as control:
        program.Parser.parse.code.adopt()
        program.scale.code.adopt()
        assert program.workflow("it is 7") == 70
    assert {"parse", "scale"} <= {name for name, _ in control.found}


def test_the_detector_sees_other_threads(program):
    program.scale.code.set(SCALE)  # by the user
    with Detector() as detector:
        assert trace.map(program.scale, [1, 2, 3, 4], workers=4) == [10, 20, 30, 40]
    assert len(detector.found) == 4


def test_a_killed_run_goes_on_to_the_same_end(program, tmp_path):
    steps = (
        [{"scale": SCALE}, {"parse": PARSE.replace("[-1]", "[0]")}],
        [{"parse": PARSE}],
        [{"parse": PARSE.replace("base)", "base) + 1")}],
        [{"parse": PARSE, "scale": SCALE}],
    )
    whole = improve(program, tmp_path / "whole", *steps, accept="better")
    for code in (program.Parser.parse.code, program.scale.code):
        code.set(next(p.before for p in whole.params if p.name == code.name))

    def stop(report):
        if report.row["step"] == 2:
            raise Stopped("as if killed")

    stopped = improve(program, tmp_path / "run", *steps, accept="better", callbacks=[stop])
    assert stopped.status == "stopped"
    fresh = load(tmp_path / "program.py")  # as a new process would
    resumed = improve(fresh, tmp_path / "run", *steps, accept="better")
    assert resumed.best == whole.best == {"parse": PARSE, "scale": SCALE} and resumed.score == whole.score == 1.0
    assert [dict(e.candidate.values) for e in resumed.history] == [dict(e.candidate.values) for e in whole.history]
    assert [e.scores for e in resumed.history] == [e.scores for e in whole.history]
    assert fresh.scale.code.author == "model" and fresh.workflow("it is 7") == 70


def test_the_report_shows_code_as_a_difference_of_lines_and_never_as_markup(program, tmp_path):
    attack = PARSE.replace("# a comment", "# </pre><script>alert(1)</script><b>")
    result = improve(program, tmp_path / "run", [{"parse": attack, "scale": SCALE}])
    page = result.report().read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert '<span class="ins">+    return x * SCALE\n</span>' in page
    assert page.count('<span class="del">-    return 0  # wrong\n</span>') == 2  # of the parameter and the candidate


def test_reset_gives_the_users_version_back_to_this_process(program, tmp_path):
    result = improve(program, tmp_path / "run", [{"parse": PARSE, "scale": SCALE}])
    result.reset("before")
    assert program.scale.code.author == "user" and program.scale.code.function is program.scale.__wrapped__
    result.reset("after")
    assert program.scale.code.author == "model" and program.workflow("it is 7") == 70


WITHOUT = """
import sys
from engine import Budget, Feedback, optimize, trace
from engine.optimizers import Candidate, Optimizer

class Fixed(Optimizer):
    needs_llm = False
    def propose(self, state, n):
        assert [p.name for p in state.params] == ["level"]
        return [Candidate({"double": "def double(x): return 9"}), Candidate({"level": 4})]

@trace.node(trainable=True)
def double(x):
    return 2 * x

level = trace.param(1, name="level")
sys.platform = "plan9"  # on which no tier works
options = dict(feedback=lambda _, out: out, budget=Budget(steps=1), workers=1)
result = optimize(lambda: double(level), optimizer=Fixed(), run_dir="both", **options)
print(result.best["level"], result.score)
double.code.set("def double(x): return 7", author="model")
for run in (lambda: double(1), lambda: optimize(lambda: double(3), optimizer=Fixed(), run_dir="code", **options)):
    try:
        run()
    except Exception as error:
        print(type(error).__name__, error.message)
"""


def test_where_there_is_no_sandbox_code_is_left_out_and_said_once(tmp_path):
    root = str(Path(__file__).parents[2])
    (tmp_path / "without.py").write_text(WITHOUT)
    done = subprocess.run(
        [sys.executable, "without.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0] == "4 8.0"
    assert [line.startswith("SandboxUnavailable nothing here may run the code of a model") for line in printed[1:]] == [
        True, True,
    ]  # fmt: skip
    assert done.stderr.count("left out of what is optimized: double: nothing here may run the code of a model") == 1
    with Journal(tmp_path / "both" / "journal.sqlite", read_only=True) as journal:
        assert "double: nothing here may run" in journal.rows("refused")[0][0]["reason"]
