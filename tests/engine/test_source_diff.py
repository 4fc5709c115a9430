"""Facts: git applies the patch, and the patched file then holds exactly the new values."""

import importlib.util
import itertools
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.source_diff import Change, changes_of, source_diff

PRELUDE = """class trace:
    @staticmethod
    def param(value=None, **options):
        return value

    @staticmethod
    def node(function=None, **options):
        return function or trace.node

param = Param = trace.param
"""
numbers = itertools.count()


def load(path):
    spec = importlib.util.spec_from_file_location(f"patched_{next(numbers)}", path)
    module = importlib.util.module_from_spec(spec)
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # no bytecode cache
    return module


def write(folder, body, name="flow.py", newline="\n"):
    """A source file with the body after the prelude; returns it and the line of each body line."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((PRELUDE + body).replace("\n", newline).encode())
    return path, PRELUDE.count("\n")


def apply(folder, text):
    patch = folder / "change.patch"
    patch.write_bytes(text.encode())
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + text


def patched(folder, body, changes, **options):
    """The module after `git apply` of the changes, given as (line in the body, value, ...)."""
    path, offset = write(folder, body, **options)
    diff = source_diff([Change(c[0], str(path), offset + c[1], c[2], *c[3:]) for c in changes], root=folder)
    assert diff.skipped == {}
    apply(folder, diff.text)
    return load(path), path


BODY = """
x = trace.param(
    "old",  # a comment stays
    name="x",
)
y = trace.param(value=0.5, name="y", ge=0)
z, w = trace.param("a", name="z"), trace.param("b", name="w")


class Agent:
    prompt = param(("adjacent "
                    "strings"), description="d")
"""


def test_each_literal_is_replaced_and_nothing_else(tmp_path):
    changes = [("x", 2, 'say "hi"'), ("y", 6, 0.25), ("z", 7, "é"), ("w", 7, ["l", 1]), ("prompt", 11, "one\n  two\n")]
    module, path = patched(tmp_path, BODY, changes)
    assert (module.x, module.y, module.z, module.w) == ('say "hi"', 0.25, "é", ["l", 1])
    assert module.Agent.prompt == "one\n  two\n"
    text = path.read_text()
    assert "# a comment stays" in text
    assert "'say \"hi\"',  # a comment" in text
    assert '"""one\n  two\n"""' in text


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("\"'\\\n\r\t é#{}", max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=texts, newline=st.sampled_from(["\n", "\r\n"]))
def test_any_text_survives_the_round_trip(value, newline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    module, path = patched(folder, BODY, [("x", 2, value), ("prompt", 11, value)], newline=newline)
    assert module.x == module.Agent.prompt == value
    assert path.read_bytes().count(b"\r\n") == (path.read_bytes().count(b"\n") if newline == "\r\n" else 0)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(value=values)
def test_any_json_value_survives_the_round_trip(value, tmp_path_factory):
    module, _ = patched(tmp_path_factory.mktemp("value"), BODY, [("x", 2, value)])
    assert module.x == value
    assert type(module.x) is type(value)


def test_long_texts_are_broken_at_words_and_stay_equal(tmp_path):
    value = "word " * 80 + "x" * 200
    module, path = patched(tmp_path, BODY, [("x", 2, value)])
    assert module.x == value
    assert max(len(line) for line in path.read_text().splitlines() if "xxx" not in line) <= 120


def test_unchanged_values_make_no_diff(tmp_path):
    path, offset = write(tmp_path, BODY)
    assert source_diff([Change("x", str(path), offset + 2, "old")], root=tmp_path).text == ""


def test_one_and_true_are_different_values(tmp_path):
    module, _ = patched(tmp_path, "\nx = trace.param(True)\n", [("x", 2, 1)])
    assert module.x == 1 and module.x is not True


def test_a_file_without_a_last_newline(tmp_path):
    module, path = patched(tmp_path, "\nx = trace.param('a')", [("x", 2, "b")])
    assert module.x == "b"
    assert not path.read_bytes().endswith(b"\n")


def test_a_file_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "bom.py"
    path.write_bytes(b"\xef\xbb\xbf" + b"param = lambda v: v; x = param('a')\n")
    diff = source_diff([Change("x", str(path), 1, "b")], root=tmp_path)
    apply(tmp_path, diff.text)
    assert path.read_bytes() == b"\xef\xbb\xbf" + b'param = lambda v: v; x = param("b")\n'


@pytest.mark.parametrize("name", ["a b.py", "déjà.py", 'quo"te.py', "deep/er/x.py", "back\\slash.py"])
def test_unusual_file_names(tmp_path, name):
    module, _ = patched(tmp_path, BODY, [("x", 2, "new")], name=name)
    assert module.x == "new"


def test_several_files_make_one_patch(tmp_path):
    changes = []
    for name in ("a.py", "b.py"):
        path, offset = write(tmp_path, BODY, name=name)
        changes.append(Change(f"x of {name}", str(path), offset + 6, 0.75))
    apply(tmp_path, source_diff(changes, root=tmp_path).text)
    assert [load(tmp_path / name).y for name in ("a.py", "b.py")] == [0.75, 0.75]


def test_an_imported_name_is_followed(tmp_path):
    (tmp_path / "other.py").write_text("def param(v, **o): return v\n")
    path = tmp_path / "flow.py"
    path.write_text("from engine.trace import param as p, node\nx = p(len('a') and 'b'), p('a', name='y')\n")
    diff = source_diff([Change("y", str(path), 2, "new")], root=tmp_path)
    assert "+x = p(len('a') and 'b'), p(\"new\", name='y')" in diff.text


@pytest.mark.parametrize(
    ("body", "line", "value", "reason"),
    [
        ("\nx = [trace.param('a') for _ in 'ab']\n", 2, "b", "inside a loop"),
        ("\nfor i in 'a':\n    x = trace.param('a')\n", 3, "b", "inside a loop"),
        ("\ns = 'a'\nx = trace.param(s)\n", 3, "b", "holds 's', not a literal"),
        ("\nx = trace.param(f'a{1}')\n", 2, "b", "not a literal"),
        ("\nx = trace.param('a' + 'b')\n", 2, "b", "not a literal"),
        ("\nx = trace.param(*['a'])\n", 2, "b", "not a literal"),
        ("\nx = trace.param()\n", 2, "b", "no value"),
        ("\nx = 3\n", 2, "b", "no call"),
        ("\nx = print('a')\n", 2, "b", "no call"),
        ("\na, b = trace.param('a'), trace.param('b')\n", 2, "c", "more than one call"),
        ("\nx = trace.param(1.0)\n", 2, float("inf"), "cannot be written"),
        ("\nx = trace.param(1.0)\n", 2, object(), "cannot be written"),
    ],
)
def test_what_cannot_be_written_back_is_named_and_not_guessed(tmp_path, body, line, value, reason):
    path, offset = write(tmp_path, body)
    diff = source_diff([Change("x", str(path), offset + line, value)], root=tmp_path)
    assert diff.text == ""
    assert reason in diff.skipped["x"]
    assert str(diff).startswith("# x: cannot be written back: ")


def test_a_file_that_was_changed_since_is_left_alone(tmp_path):
    path, offset = write(tmp_path, BODY)
    diff = source_diff([Change("x", str(path), offset + 2, "new", before="older")], root=tmp_path)
    assert "no longer holds" in diff.skipped["x"]
    path.write_text("x = (")
    assert "no longer valid" in source_diff([Change("x", str(path), 1, "new")], root=tmp_path).skipped["x"]


def test_two_parameters_of_one_literal_are_written_only_when_they_agree(tmp_path):
    path, offset = write(tmp_path, "\ndef make():\n    return trace.param('a')\n")
    here = (str(path), offset + 3)
    diff = source_diff([Change("one", *here, "b"), Change("two", *here, "a")], root=tmp_path)
    assert diff.text == "" and set(diff.skipped) == {"one", "two"}
    diff = source_diff([Change("one", *here, "b"), Change("two", *here, "b")], root=tmp_path)
    assert diff.skipped == {}
    apply(tmp_path, diff.text)
    assert load(path).make() == "b"


@pytest.mark.parametrize("file", ["<stdin>", "/nowhere/flow.py"])
def test_no_file_to_write_to(tmp_path, file):
    assert "there is no file" in source_diff([Change("x", file, 1, "b")], root=tmp_path).skipped["x"]


def test_files_outside_the_root_and_in_other_encodings_are_left_alone(tmp_path):
    path, offset = write(tmp_path / "outside", BODY)
    (tmp_path / "root").mkdir()
    assert "lies outside" in source_diff([Change("x", str(path), offset + 2, "b")], root=tmp_path / "root").skipped["x"]
    path.write_bytes("# -*- coding: latin-1 -*-\nx = param('é')\n".encode("latin-1"))
    assert "not UTF-8" in source_diff([Change("x", str(path), 2, "b")], root=tmp_path).skipped["x"]


def test_the_root_is_the_repository_of_the_working_folder(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    path, offset = write(tmp_path, BODY, name="sub/flow.py")
    monkeypatch.chdir(tmp_path / "sub")
    diff = source_diff([Change("x", str(path), offset + 2, "b")])
    assert "+++ b/sub/flow.py\n" in diff.text
    apply(tmp_path, diff.text)
    assert load(path).x == "b"


FUNCTIONS = '''
@trace.node(trainable=True)
@trace.node
def parse(text: str) -> int:
    """Read."""
    return 1  # a comment goes with the body


class Agent:
    @trace.node(trainable=True)
    async def act(self, text):
        return text
'''
NEW_PARSE = '''def parse(text: str) -> int:
    """Read a number,

indented nowhere."""
    # the last line
    return int(text.split()[-1])
'''


def test_a_function_is_replaced_and_its_decorators_stay(tmp_path):
    module, path = patched(tmp_path, FUNCTIONS, [("parse", 2, NEW_PARSE, "code")])
    assert module.parse("is 12") == 12
    assert module.parse.__doc__ == "Read a number,\n\nindented nowhere."
    assert "@trace.node(trainable=True)\n@trace.node\ndef parse" in path.read_text()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_method_is_indented_and_its_strings_are_not(tmp_path, newline):
    new = "@anything\nasync def act(self, text):\n    return '''a\nb''' + f'''{text}\nc'''\n"
    module, path = patched(tmp_path, FUNCTIONS, [("act", 10, new, "code")], newline=newline)
    coroutine = module.Agent().act("x")
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value == "a\nbx\nc"
    assert "anything" not in path.read_text()


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("def other(text): return 1", "defines 'other'"),
        ("x = 1", "not one function"),
        ("def parse(", "not one function"),
        ("def parse(text): return 1\nimport os", "not one function"),
    ],
)
def test_a_function_that_does_not_fit_is_refused(tmp_path, new, reason):
    path, offset = write(tmp_path, FUNCTIONS)
    diff = source_diff([Change("parse", str(path), offset + 4, new, "code")], root=tmp_path)
    assert diff.text == "" and reason in diff.skipped["parse"]


def test_an_unchanged_function_makes_no_diff(tmp_path):
    path, offset = write(tmp_path, FUNCTIONS)
    same = 'def parse(text: str) -> int:\n    """Read."""\n    return 1\n'
    assert source_diff([Change("parse", str(path), offset + 2, same, "code")], root=tmp_path).text == ""


def test_a_function_that_shares_its_line_is_left_alone(tmp_path):
    path, offset = write(tmp_path, "\ndef f(): return 1; x = 2\ndef g(): return 1\n")
    change = Change("g", str(path), offset + 3, "def g():\n    return 2", "code")
    apply(tmp_path, source_diff([change], root=tmp_path).text)
    assert load(path).g() == 2


def test_changes_of_parameters():
    class P:
        def __init__(self, name, value, origin):
            self.name, self.value, self.origin, self.kind = name, value, origin, "text"

    made = changes_of([P("a", 1, ("f.py", 3)), P("b", 2, ("f.py", 4)), P("c", 3, None)], {"a": 9})
    assert made == [Change("a", "f.py", 3, 9), Change("b", "f.py", 4, 2)]
