"""Facts: nothing but markup made here is markup in the page."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.report.html import Html, clip, details, escape, join, number, section, table, tag, tile


class Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


@given(text=st.text() | st.text("<>&\"'/=!-script"))
def test_any_text_comes_back_as_text_and_adds_no_tag(text):
    seen = Texts()
    seen.feed(tag("p", text, title=text))
    seen.close()
    shown = "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\t\n\r" else c for c in text)
    shown = shown.replace("\x7f", "\u2421")
    assert seen.tags == ["p"]
    assert seen.text == shown
    assert seen.attributes == [("title", shown)]


def test_markup_is_not_escaped_twice():
    inner = tag("b", "a & b")
    assert inner == "<b>a &amp; b</b>"
    assert tag("p", inner, "<") == "<p><b>a &amp; b</b>&lt;</p>"
    assert escape(inner) is inner
    assert isinstance(join([inner]), Html)


def test_attributes_are_named_as_html_names_them():
    assert tag("line", class_="x", stroke_width=2, id=None) == '<line class="x" stroke-width="2"/>'


def test_parts_escape_their_texts():
    bad = "<script>"
    for part in (
        section(bad, bad),
        table([bad], [[bad]]),
        details(bad, bad),
        tile(bad, bad, bad),
    ):
        assert "<script" not in part


def test_an_empty_section_is_left_out():
    assert section("Title", "", Html("")) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0.5, "0.5"),
        (-0.25, "\u22120.25"),
        (1 / 3, "0.3333"),
        (1234567, "1\u202f234\u202f567"),
        (2000.0, "2\u202f000"),
        (1e-06, "1e-06"),
        (True, "true"),
        ("NaN", "NaN"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ([1, "a"], '[1, "a"]'),
    ],
)
def test_numbers_as_a_person_reads_them(value, text):
    assert number(value) == text


def test_a_cut_says_how_much_is_missing():
    assert clip("abcdef", 4) == "abcd\u2026 (2 more characters)"
    assert clip("abcd", 4) == "abcd"
