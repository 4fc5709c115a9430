"""What may be parsed in the host."""

import ast
from pathlib import Path

import pytest

from engine.errors import ParamError
from engine.sandbox import check_nesting, imported_modules

ROOT = Path(__file__).parents[3]
MANY = 100_000


@pytest.mark.parametrize(
    "source",
    [
        "(" * MANY, "[" * MANY + "]" * MANY, "-" * MANY + "1", "not " * 40_000 + "1", "x" + ".a" * 40_000,
        "f" + "()" * 40_000, "x" + "[0]" * 40_000,
        "+".join("1" * 20_000), "lambda: " * 20_000 + "0", "a if b else " * 10_000 + "c",
        "f'{" + "-" * 1000 + "1}'", "await " * 20_000 + "x", "x = " * 20_000 + "1", "(\n" * 1000,
        "if a: pass\n" + "elif a: pass\n" * 5_000, "#" * 300_000, "x = (" + "-\n" * 1000 + "1)", "a" + "**a" * 5000,
        "a" + " or (b" * 1000 + ")" * 1000,
    ],
    ids=lambda source: source[:12],
)  # fmt: skip
def test_what_could_bring_the_parser_down_is_refused(source: str) -> None:
    with pytest.raises(ParamError):
        check_nesting(source)


def test_sources_of_this_project_are_let_through() -> None:
    files = [file for folder in ("engine", "rl", "agents") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    for file in files:
        check_nesting(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "x = [" + "1, " * 20_000 + "]",
        "x = {" + "'a': -1, " * 10_000 + "}",
        "x = '''" + "(:( - . \n" * 5_000 + "'''",
        "# " + "(" * 5_000,
        "x = f('''" + "a. - b\n" * 3_000 + "''')",
        "x = 1\n" * 20_000,
        "x = f'{a} and {b}'\n" * 2_000,
        "f(" + "g(1), " * 5_000 + ")",
        "x = ''",
        "",
    ],
    ids=lambda source: source[:12],
)
def test_long_but_flat_source_is_let_through(source: str) -> None:
    check_nesting(source)
    ast.parse(source)


def test_the_modules_that_a_source_imports() -> None:
    source = "import os.path, re as r\nfrom json import loads\ndef f():\n    import heapq\nfrom . import x\n"
    assert imported_modules(source) == {"os", "re", "json", "heapq", "."}
    assert imported_modules("x = 'import os'") == set()
    with pytest.raises(SyntaxError):
        imported_modules("import")
    with pytest.raises(ParamError):
        imported_modules("(" * MANY)


@pytest.mark.parametrize(
    "source", ["'" + "\\'" * 90_000, "'''" + "\\'" * 90_000, "a'" * 60_000, '"""' + "'''" * 60_000]
)
def test_quotes_without_an_end_are_read_once(source: str) -> None:
    """Read again from each quote on they would take minutes, and the parser refuses them anyway."""
    check_nesting(source)
