"""What SEARCH/REPLACE blocks do to a text, by hand and against difflib."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import AnswerError
from engine.optimizers._blocks import blocks_of, edited, has_blocks

SOURCE = """def f(xs):
    best = 0
    for x in xs:
        if x > best:
            best = x
    return best
"""


def block(search, replace, name=""):
    middle = f"{search}\n=======\n" if search else "=======\n"
    return f"<<<<<<< SEARCH{name}\n{middle}{replace}" + ("\n" if replace else "") + ">>>>>>> REPLACE\n"


def after(*blocks, source=SOURCE):
    return edited({"f": source}, blocks_of("I change this.\n" + "and that\n".join(blocks)))["f"]


@pytest.mark.parametrize(
    ("search", "replace", "old", "new"),
    [
        ("    best = 0", "    best = xs[0]", "best = 0", "best = xs[0]"),
        ("    best = 0   ", "    best = xs[0]", "best = 0", "best = xs[0]"),
        ("best = 0", "best = xs[0]", "best = 0", "best = xs[0]"),
        ("if x > best:\n    best = x", "best = max(\n    best, x)", "if x > best:\n            best = x",
         "best = max(\n            best, x)"),
        ("            if x > best:\n                best = x", "            best = max(best, x)",
         "if x > best:\n            best = x", "best = max(best, x)"),
        ("    best = 0", "    best = 0\n    seen = []", "best = 0", "best = 0\n    seen = []"),
        ("        if x > best:\n            best = x", "        pass", "if x > best:\n            best = x", "pass"),
        ("x > best", "x >= best", "x > best", "x >= best"),
        ("xs:\n        if x >", "xs:\n        if x >=", "xs:\n        if x >", "xs:\n        if x >="),
        ("    best = 0", "", "    best = 0\n", ""),
        ("    return best\n", "    return -best", "    return best\n", "    return -best"),
        (SOURCE.rstrip(), "def f(xs):\n    return max(xs)", SOURCE.rstrip(), "def f(xs):\n    return max(xs)"),
    ],
)  # fmt: skip
def test_blocks_by_hand(search, replace, old, new):
    assert SOURCE.count(old) == 1
    assert after(block(search, replace)) == SOURCE.replace(old, new)


def test_blocks_are_matched_against_the_text_as_it_was_and_may_stand_in_any_order():
    swapped = after(block("    return best", "    best = 0"), block("    best = 0", "    return best"))
    lines = SOURCE.split("\n")
    assert swapped.split("\n") == [lines[0], lines[5], *lines[2:5], lines[1], ""]


def test_an_exact_match_is_preferred_to_a_tolerant_one():
    source = "if a:\n    x = 1\nx = 1\n"
    assert after(block("x = 1", "x = 2"), source=source) == "if a:\n    x = 1\nx = 2\n"


def test_the_same_edit_twice_counts_once_and_windows_line_ends_are_read():
    one = block("    best = 0", "    best = 1")
    assert after(one, one) == after(one.replace("\n", "\r\n")) == SOURCE.replace("= 0", "= 1")


def test_a_block_goes_where_its_name_says_or_where_it_matches():
    texts = {"a": "one\n", "b": "two\n", "c": "one\n"}
    assert edited(texts, blocks_of(block("two", "2"))) == {"b": "2\n"}
    assert edited(texts, blocks_of(block("one", "1", " c"))) == {"c": "1\n"}
    assert edited(texts, blocks_of(block("one", "1", " `a`"))) == {"a": "1\n"}
    assert edited({"f": "one"}, blocks_of(block("one", "1", ": main.py"))) == {"f": "1"}, "one text needs no name"
    assert edited({"f": ""}, blocks_of(block("", "new\nlines"))) == {"f": "new\nlines"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (block("    best = 9", "    best = 1"), "block 1 matches nothing: no line 'best = 9'"),
        (block("    best = 0", "") + block("  lest = x", ""), "block 2 matches nothing"),
        (block("best", "worst"), "block 1 matches 4 places (f:2, f:4, f:5, f:6)"),
        (block("    best = 0", "a") + block("def f(xs):\n    best = 0", "b"), "two blocks edit line 2"),
        (block("", "x"), "block 1 has nothing to search for"),
        ("<<<<<<< SEARCH\n    best = 0\n", "block 1 has no ======= after its SEARCH"),
        ("<<<<<<< SEARCH\n    best = 0\n=======\n    best", "block 1 has no >>>>>>> REPLACE after its ======="),
        ("<<<<<<< SEARCH\n    best = 0\n<<<<<<< SEARCH\n=======\n>>>>>>> REPLACE", "block 1 has no ======="),
        (">>>>>>> REPLACE", "ends no block"),
    ],
)
def test_what_cannot_be_applied_is_said(answer, reason):
    assert has_blocks(answer)
    with pytest.raises(AnswerError) as caught:
        edited({"f": SOURCE}, blocks_of(answer))
    assert reason in caught.value.message


def test_the_nearest_lines_are_shown_where_a_block_does_not_match():
    with pytest.raises(AnswerError) as caught:
        after(block("        if x >= best:", "        if x < best:"))
    shown = caught.value.message.partition("are\n")[2].split("\n")
    assert shown == [f"{i}: {line}" for i, line in enumerate(SOURCE.split("\n"), 1) if 1 <= i <= 7]


def test_unknown_names_are_told_with_the_known_ones():
    with pytest.raises(AnswerError, match="block 1 names 'd'; there are: a, b"):
        edited({"a": "one", "b": "two"}, blocks_of(block("one", "1", " d")))


def test_an_answer_without_a_block_has_none():
    assert not has_blocks("def f(xs):\n    # <<< SEARCH\n    return xs << 7 == 1\n") and blocks_of("text") == []


LINES = ["x = 1", "    x += 1", "        x += 1", "    return x", "", "    y = x", "    for x in y:", "def g():"]
functions = st.lists(st.sampled_from(LINES), max_size=12).map(lambda lines: ["def f(x):", *lines])


def blocks_between(old, new):
    """Blocks that make one list of lines the other: difflib's hunks, with so much context that each stands once."""
    for context in range(1, len(old) + 2):
        # A matcher for each: get_grouped_opcodes changes what it has kept.
        hunks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context)
        pairs = [(old[h[0][1] : h[-1][2]], new[h[0][3] : h[-1][4]]) for h in hunks]
        if all("".join(lines).strip() and count(old, lines) == 1 for lines, _ in pairs):
            blocks = (["<<<<<<< SEARCH", *a, "=======", *b, ">>>>>>> REPLACE", "and"] for a, b in pairs)
            return "\n".join(line for lines in blocks for line in lines)
    raise AssertionError("the whole text stands once in itself")


def count(lines, part):
    return sum(lines[i : i + len(part)] == part for i in range(len(lines)))


@given(functions, functions)
def test_the_blocks_between_two_functions_make_one_the_other(old, new):
    answer = blocks_between(old, new)
    source = "\n".join([*old, ""])
    assert edited({"f": source}, blocks_of(answer)).get("f", source) == "\n".join([*new, ""])


pieces = st.sampled_from(
    ["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "<<<<<<< SEARCH f", "    best = 0", "", " ", "x", "\r"]
)


@given(st.lists(pieces, max_size=14), st.text(max_size=8))
def test_whatever_is_answered_is_edits_or_a_reason(lines, odd):
    answer = "\n".join([*lines, odd])
    try:
        assert set(edited({"f": SOURCE}, blocks_of(answer))) <= {"f"}
    except AnswerError as error:
        assert has_blocks(answer) and error.message


def test_long_lines_take_no_time():
    """Where something is quadratic this is minutes; it is bounded by the time of the suite."""
    spaces = "a" + " " * 300_000 + "b"
    for search in (spaces, "x" * 300_000):
        with pytest.raises(AnswerError) as caught:
            edited({"f": spaces + "\n" + "y" * 300_000}, blocks_of(block(search + "!", "z", spaces)))
        assert len(caught.value.message) < 2000
