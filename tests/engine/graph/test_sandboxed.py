"""Versions that a model wrote: run in the sandbox, with what they name, until the user adopts them."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import re
import statistics as stats  # noqa: F401 - named by a version
from collections import Counter
from math import floor as down  # noqa: F401 - named by a version

import pytest

from engine import trace
from engine.errors import InputError, ParamError

OFFSET = 10
DIGITS = re.compile(r"\d+", re.ASCII)
share = trace.param(0.5, name="share")
client = object()


def scaled(x, by=OFFSET):
    return x * by


@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@trace.node
def plus_one(x):
    return scaled(x, 1) + 1


def talking(x):
    return client.talk(x)


@trace.node(trainable=True)
def inner(x):
    return -x


@trace.node(trainable=True, timeout_s=1.0)
def parse(text: str, n=2, *, up=False) -> int:
    """A number."""
    return 1


HEADER = "def parse(text, n=2, *, up=False):\n    "


@pytest.fixture(autouse=True)
def _restored():
    codes = [parse.code, inner.code]
    before = [code.value for code in codes]
    yield
    for code, value in zip(codes, before, strict=True):
        code.set(value)


def of_model(body, *args, **kwargs):
    """parse(*args, **kwargs) with a body that a model wrote."""
    with trace.using({parse.code: HEADER + body + "\n"}):
        return parse(*args, **kwargs)


def test_a_models_version_runs_in_another_process_and_the_users_own_in_this_one():
    parse.code.set(HEADER + "return __import__('os').getpid()\n", author="model")
    assert parse.code.author == "model" and parse("") != os.getpid()
    with trace.record():
        assert parse("").value != os.getpid()
    parse.code.set(HEADER + "return os.getpid()\n")
    assert parse.code.author == "user" and parse("") == os.getpid()


def test_adopting_makes_it_the_users_and_only_that_does():
    text = HEADER + "return __import__('os').getpid()\n"
    parse.code.set(text, author="model")
    version = parse.code.version
    parse.code.adopt()
    assert (parse.code.author, parse.code.version, parse.code.value) == ("user", version, text)
    assert parse("") == os.getpid()
    with trace.using({parse.code: text}):  # the same text, whoever proposes it again
        assert parse.code.author == "user" and parse("") == os.getpid()
    with trace.using({parse.code: text + "    # a model's\n"}):
        assert parse.code.author == "model" and parse("") != os.getpid()


def test_the_users_own_version_stays_the_users_also_when_a_model_proposes_it():
    own = parse.code.value
    parse.code.set(HEADER + "return 2\n", author="model")
    parse.code.set(own, author="model")
    assert parse.code.author == "user" and parse.code.function is parse.__wrapped__


def test_a_users_overlay_runs_in_process():
    with trace.using({parse.code: HEADER + "return os.getpid()\n"}, author="user"):
        assert parse("") == os.getpid()


def test_a_loaded_state_does_not_make_a_models_code_the_users():
    class Agent(trace.Module):
        def __init__(self):
            self.code = parse.code

    agent = Agent()
    own = agent.state_dict()
    parse.code.set(HEADER + "return [__import__('os').getpid()]\n", author="model")
    saved = agent.state_dict()
    agent.load_state_dict(own)
    assert parse.code.author == "user"
    agent.load_state_dict(saved)
    assert parse.code.author == "model" and parse("") != [os.getpid()]
    agent.load_state_dict(saved, adopt=True)
    assert parse.code.author == "user" and parse("") == [os.getpid()]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return scaled(3) + OFFSET", 40),  # a helper with its default, a constant
        ("return plus_one(1)", 2),  # another node, undecorated, and what it names
        ("return inner(4)", -4),  # a trainable one
        ("return fib(60)", 1548008755920),  # its cache goes with it, or it would not end
        ("return down(math.pi) + stats.mean([1, 3])", 5),
        ("return Counter(text).most_common(1)[0]", ("b", 2)),
        ("return DIGITS.findall('a1b22')", ["1", "22"]),
        ("return share * 2", 1.0),  # a parameter read from outside
        ("return text if n == 0 else parse(text[1:], n - 1)", "b"),  # recursion
        ("return parse(text, n=1) if n != 1 else [text, n, up]", ["abb", 1, False]),  # with its own defaults
        ("import itertools\n    return list(itertools.accumulate([1, 2]))", [1, 3]),
        ("def deep(x: Anything) -> Nothing:\n        return x\n    return deep(n)", 2),  # annotations may name anything
        ('return """a\n  b"""', "a\n  b"),
        ("return {(1, 2): [None, True, 1.5, 1j, b'x', {1}, frozenset({2})]}", None),
    ],
)
def test_what_it_names_goes_with_it(body, value):
    got = of_model(body, "abb")
    if value is None:
        value = {(1, 2): [None, True, 1.5, 1j, b"x", {1}, frozenset({2})]}
    assert got == value and type(got) is type(value)


def test_values_and_versions_of_what_it_names_are_those_of_the_call(monkeypatch):
    parse.code.set(HEADER + "return [OFFSET, share, inner(1)]\n", author="model")
    assert parse("") == [10, 0.5, -1]
    monkeypatch.setitem(globals(), "OFFSET", [1, {"a": (2,)}])
    with trace.using({share: 0.25, inner.code: "def inner(x):\n    return x + 5\n"}):
        assert parse("") == [[1, {"a": (2,)}], 0.25, 6]
    monkeypatch.setitem(globals(), "OFFSET", object())
    with pytest.raises(TypeError, match="`OFFSET` goes to the sandbox with the code, and now holds an object"):
        parse("")


def test_a_parameter_that_it_reads_is_a_parent():
    parse.code.set(HEADER + "return share * n\n", author="model")
    with trace.record():
        node = parse("", trace.value(4, name="four"))
    assert node.value == 2.0 and {p.name for p in node.parents} == {"parse", "four", "share"}


def test_a_closure_goes_with_it_as_values():
    def make(k, words):
        def near(x):
            return x + k

        @trace.node(trainable=True)
        def times(x):
            return near(x) * k + len(words)

        return times

    times, other = make(3, ["a"]), make(5, [])
    text = "def times(x):\n    return [near(x), k, words]\n"
    with trace.using({times.code: text, other.code: text}):
        assert times(2) == [5, 3, ["a"]] and other(2) == [7, 5, []]
    with pytest.raises(ParamError, match="no binding for nonlocal 'k' found"):
        times.code.set("def times(x):\n    nonlocal k\n    k = 1\n    return near(words)\n", author="model")


def test_a_name_that_means_two_things_is_refused():
    def make(OFFSET):
        @trace.node(trainable=True)
        def shifted(x):
            return scaled(x) + OFFSET

        return shifted

    shifted = make(3)
    with pytest.raises(ParamError, match="`OFFSET` means two things"):
        shifted.code.set("def shifted(x):\n    return both(x) + OFFSET\n", author="model")


def both(x):
    return x + OFFSET


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "return client.talk(text)",
            r"parse uses `client` \(an object\), which the sandbox has not: pass what it needs",
        ),
        ("return talking(text)", "talking uses `client`"),
        ("return os.getcwd()", "parse uses the module `os`, which the sandbox has not"),
        ("import os.path\n    return 1", "parse imports `os.path`, which the sandbox has not"),
        ("from . import secrets", "parse imports `.`"),
        ("return [lambda: nowhere]", "parse uses `nowhere`, which is not defined"),
        ("return pytest.main()", "the module `pytest`"),
        ("return ParamError('x')", r"`ParamError` \(the class ParamError\)"),
        ("return trace.record()", "the module `engine.trace`"),
        ("return " + "(" * 600 + ")" * 600, "levels deep|nested too deeply"),
        ("return " + "-" * 3000 + "1", "levels deep|nested too deeply"),
        ("return " + "+".join("1" * 5000), "levels deep|nested too deeply"),
        ("x = " + "'a'" * 10_000, "the code has 30"),
        ("return '\\N{nothing}'", "not Python"),
        ("return \ud800", "not Python"),
        ("return 1\0", "not Python"),
    ],
)
def test_what_it_cannot_have_is_told_before_it_runs(body, reason):
    with pytest.raises(ParamError, match=reason) as told:
        parse.code.set(HEADER + body + "\n", author="model")
    assert told.value.place == "parameter 'parse'"


@pytest.mark.parametrize(
    ("body", "error", "message", "line"),
    [
        ("x = 1\n    return x / 0", ZeroDivisionError, "division by zero", "  in parse, line 3: return x / 0"),
        ("return {}[text]", KeyError, "'t'", "  in parse, line 2: return {}[text]"),
        ("# why\n\n    raise ValueError", ValueError, None, "  in parse, line 4: raise ValueError"),
        ("return scaled(None, None)", TypeError, "unsupported operand", "  in scaled, line 2: return x * by"),
        (
            "def f():\n        return [][1]\n    return f()",
            IndexError,
            "list index",
            "  in f of parse, line 3: return [][1]",
        ),
        ("class E(LookupError): pass\n    raise E('mine')", LookupError, "E: mine", "  in parse, line 3: raise E"),
        ("return b'\\xff'.decode()", UnicodeError, "invalid start byte", "line 2"),
        ("raise SystemExit(3)", RuntimeError, "SystemExit: 3", "  in parse, line 2: raise SystemExit(3)"),
        ("raise KeyboardInterrupt", RuntimeError, "KeyboardInterrupt", "line 2"),
        ("raise ExceptionGroup('many', [ValueError()])", Exception, "many", "line 2"),
        ("return parse(text)", RecursionError, "recursion", "  in parse, line 2: return parse(text)"),
        ("while True: pass", TimeoutError, "parse did not end within 1 s", ""),
        ("return 'x' * 10**10", MemoryError, "parse needed more than 512 MB", ""),
        ("return object()", TypeError, "the result of parse cannot be sent: an object of type object", ""),
        ("return [share, lambda: 1]", TypeError, "the result of parse cannot be sent", ""),
        ("import os\n    os._exit(0)".replace("import os", "os = __import__('os')"), RuntimeError, "ended", ""),
        ("return 1\n    break", SyntaxError, r"'break' outside loop \(line 3 of parse\)", ""),
        ("return print('x' * 10**8)", RuntimeError, "ended in the sandbox", ""),
    ],
)
def test_what_goes_wrong_there_is_raised_here_with_its_lines(body, error, message, line):
    with trace.record() as graph, pytest.raises(error, match=message) as raised:
        of_model(body, "t")
    assert issubclass(error, type(raised.value)) or type(raised.value) is error
    node = trace.error_node(raised.value)
    assert node is graph.nodes[-1] and line in node.feedback.text
    assert node.feedback.text.startswith(type(raised.value).__name__)
    assert "engine" not in node.feedback.text and "__engine_run__" not in node.feedback.text


def test_a_caller_may_catch_it_by_its_type():
    parse.code.set(HEADER + "return int(text)\n", author="model")
    try:
        parse("five")
    except ValueError as error:
        assert "invalid literal for int() with base 10: 'five'" in str(error)
        assert error.__notes__ == ["  in parse, line 2: return int(text)"]


def test_arguments_are_bound_here_and_must_be_of_built_in_types():
    parse.code.set(HEADER + "return [text, n, up]\n", author="model")
    assert parse(text="a", up=True) == ["a", 2, True]
    assert parse([trace.value(1), {"k": share}], OFFSET) == [[1, {"k": 0.5}], 10, False]
    for call, message in {
        (lambda: parse()): "missing a required argument: 'text'",
        (lambda: parse("a", 1, 2)): "too many positional",
        (lambda: parse("a", n=object())): "its argument `n` holds an object",
        (lambda: parse([{"x": Counter()}])): "its argument `text` holds a collections.Counter",
        (lambda: parse("\ud800")): "its argument `text` holds a str with a lone surrogate",
    }.items():
        with pytest.raises(TypeError, match=message):
            call()
    nested = []
    nested.append(nested)
    with pytest.raises(TypeError, match="nested more than"):
        parse(nested)


def test_defaults_are_the_users_and_what_it_does_to_its_arguments_stays_there():
    @trace.node(trainable=True)
    def grown(items, more=(1, 2), *rest, key=share, **named):
        return items

    text = "def grown(items, more=(1, 2), *rest, key=share, **named):\n    items.append(0)\n    return "
    grown.code.set(text + "[items, more, rest, key, named]\n", author="model")
    items = []
    assert grown(items, z=1) == [[0], (1, 2), (), 0.5, {"z": 1}]
    assert grown(items, 3, 4, 5, key=6) == [[0], 3, (4, 5), 6, {}] and items == []


def test_decorators_and_defaults_of_a_proposal_are_not_evaluated_anywhere():
    text = "@print('decorated')\n@wild\ndef parse(text: print(1), n=2, *, up=False) -> wilder:\n    return 7\n"
    parse.code.set(text, author="model")
    assert parse("") == 7
    with pytest.raises(ParamError, match="parameters changed"):
        parse.code.set("def parse(text, n=print(2), *, up=False):\n    return 7\n", author="model")


@pytest.mark.parametrize(
    "text",
    [
        "def parse(text, n=2, *, up=False): return n + 1",
        "def parse(\n    text,\n    n=2, *, up=False): return n + 1",
        "def parse(text, n=2, *,\n          up=False  # why\n          ):\n    # and why\n\n    return n + 1",
        "def parse(text, n=2, *, up=False):\\\n  return n + 1",
        "def parse(text, n=2, *, up=False):\r\n\tif n:\r\n\t\treturn n + 1\r\n",
        "    def parse(text, n=2, *, up=False):\n        return n + 1\n",
        "def parse(text, n=2, *, up=False):\n    'é'; return n + 1",
        "def parse(text, n=2, *, up=False):\n    @lambda f: f\n    def g(): return n + 1\n    return g()",
        "Sure:\n```python\ndef parse(text, n=2, *, up=False):\n    return n + 1\n```\nThis adds one.",
    ],
)
def test_any_way_to_write_a_function_is_read(text):
    with trace.using({parse.code: text}):
        assert parse("") == 3


async def test_coroutines_and_generators_stay_what_they_are():
    @trace.node(trainable=True)
    async def later(x):
        return x

    @trace.node(trainable=True)
    def several(x):
        yield x

    @trace.node(trainable=True)
    async def stream(x):
        yield x

    later.code.set(
        "async def later(x):\n    async def two():\n        return 2\n    return x * await two()\n", author="model"
    )
    several.code.set("def several(x):\n    yield x\n    yield from [1, 2]\n", author="model")
    stream.code.set("async def stream(x):\n    for i in range(x):\n        yield i\n", author="model")
    assert await asyncio.gather(later(1), later(2)) == [2, 4]
    assert next(several(0)) == 0 and list(several(0)) == [0, 1, 2]
    assert [item async for item in stream(3)] == [0, 1, 2]
    with trace.record():
        assert (await later(4)).value == 8
        assert several(5).value == [5, 1, 2]
        assert [item.value async for item in stream(2)] == [0, 1]
    later.code.set("async def later(x):\n    return await x\n", author="model")
    waiting = asyncio.sleep(0)
    with pytest.raises(TypeError, match="its argument `x` holds a coroutine"):
        await later(waiting)
    waiting.close()
    hanging = "class Never:\n        def __await__(self):\n            yield 1\n    return await Never()"
    later.code.set(f"async def later(x):\n    {hanging}\n", author="model")
    with pytest.raises(RuntimeError, match="needs an event loop"):
        await later(1)


def test_a_coroutine_function_can_be_driven_without_an_event_loop():
    @trace.node(trainable=True)
    async def later(x):
        return x

    later.code.set("async def later(x):\n    return x + 1\n", author="model")
    with pytest.raises(StopIteration) as ended:
        later(1).send(None)
    assert ended.value.value == 2


def test_limits_are_checked():
    for options in ({"timeout_s": 0}, {"memory_mb": -1}, {"timeout_s": "2"}):
        with pytest.raises(InputError, match="a number above 0"):
            trace.node(trainable=True, **options)(both)


def test_code_that_belongs_to_no_module():
    code = trace.param("def f(x, by=2):\n    return x * by", kind="code", name="f")
    assert code.function(2) == 4
    code.set("def f(x, by=2):\n    return [x, by, f(x, 3) if by == 2 else None]")
    assert code.function(1) == [1, 2, [1, 3, None]]
    code.set("def f(x, by=2):\n    return [x, by, len('ab')]", author="model")
    assert code.function(5) == [5, 2, 2]
    with pytest.raises(ParamError, match="`math`, which is not defined"):
        code.set("def f(x, by=2):\n    return math.pi", author="model")


def test_a_version_is_put_together_once(monkeypatch):
    made = []
    from engine.graph import sandboxed

    real = sandboxed.bundle
    monkeypatch.setattr(sandboxed, "bundle", lambda *given: made.append(1) or real(*given))
    text = HEADER + "return 'only here'\n"
    for _ in range(3):
        with trace.using({parse.code: text}):
            assert parse("") == "only here"
    assert len(made) == 1


def test_the_modules_a_user_may_have_are_those_of_the_list():
    assert of_model("return math.tau", "") == math.tau
