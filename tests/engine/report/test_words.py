"""Facts: without its insertions a diff is the old text, without its deletions the new one."""

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from engine.report.words import patch, value_diff, word_diff

texts = st.lists(st.sampled_from(["the", "a", "model", "answers", " ", " ", "\n", ".", "<b>", "é"]), max_size=30).map(
    "".join
)


def without(name, markup):
    inner = markup.removeprefix('<div class="text">').removesuffix("</div>")
    return html.unescape(re.sub(r"</?(ins|del)>", "", re.sub(rf"<{name}>.*?</{name}>", "", inner, flags=re.S)))


@given(texts, texts)
def test_a_diff_holds_both_texts(before, after):
    shown = word_diff(before, after)
    assert without("ins", shown) == before
    assert without("del", shown) == after


def test_only_the_changed_word_is_marked():
    assert word_diff("give a number", "give one number") == (
        '<div class="text">give <del>a</del><ins>one</ins> number</div>'
    )


def test_very_long_texts_are_compared_by_lines():
    before = "word " * 4000 + "\nsame line\n"
    shown = word_diff(before, "other\nsame line\n")
    assert "</del>" in shown and shown.endswith("same line\n</div>")


def test_values_that_are_no_texts_are_shown_whole():
    assert value_diff(0.5, 0.7) == '<div class="text"><del>0.5</del> <ins>0.7</ins></div>'
    assert value_diff(1, 1) == '<div class="text">1</div>'


def test_a_patch_is_coloured_by_line_and_escaped():
    shown = patch("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-<old>\n+<new>")
    assert shown.count('class="hunk"') == 3
    assert '<span class="del">-&lt;old&gt;\n</span><span class="ins">+&lt;new&gt;\n</span>' in shown
