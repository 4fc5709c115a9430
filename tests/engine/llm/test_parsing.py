"""Answers as models write them. The right value of each was read off by eye, not computed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import AnswerError
from engine.llm import ScriptedLLM
from engine.llm.parsing import Unreadable, read_answer, without_thinking

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 60},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "mode": {"enum": ["fast", "slow"]},
    },
    "required": ["text", "threshold"],
    "additionalProperties": False,
}
GOOD = {"text": "a bad review", "threshold": 0.5}
PLAIN = '{"text": "a bad review", "threshold": 0.5}'

READ = {
    "plain": PLAIN,
    "spaces around": f"\n\n  {PLAIN}\n",
    "fenced": f"```json\n{PLAIN}\n```",
    "fenced without a language": f"```\n{PLAIN}\n```",
    "prose before": f"Sure! Here is the JSON you asked for: {PLAIN}",
    "prose after": f"{PLAIN}\n\nI hope this helps!",
    "prose with an apostrophe": f"Here's what I'd use: {PLAIN}",
    "fence inside prose": f"My answer:\n```json\n{PLAIN}\n```\nDone.",
    "prose with braces": "Fill in {placeholder} like this: " + PLAIN,
    "think block": f"<think>Maybe {{'a': 1}}? No.</think>\n{PLAIN}",
    "end of a think block only": f"Let me see. It is hard.\n</think>\n{PLAIN}",
    "same object twice": f"{PLAIN}\n{PLAIN}",
    "trailing commas": '{"text": "a bad review", "threshold": 0.5,}',
    "single quotes": "{'text': 'a bad review', 'threshold': 0.5}",
    "same key twice, same value": '{"threshold": 0.5, "text": "a bad review", "threshold": 0.5}',
    "an example that does not fit": f'{{"text": "...", "threshold": 7}} would be wrong, so: {PLAIN}',
    "exponent": '{"text": "a bad review", "threshold": 5e-1}',
    "escapes": '{"text": "\\u0061 bad review", "threshold": 0.5}',
}

REFUSED = {
    "empty": ("", "empty"),
    "white space": (" \n\t", "empty"),
    "null": ("null", "null, not object"),
    "a number": ("5", "not object"),
    "a list": (f"[{PLAIN}]", "array, not object"),
    "refusal": ("I'm sorry, but I cannot help with that.", "no JSON value"),
    "HTML": ("<html><body><style>p {color: red}</style>502 Bad Gateway</body></html>", "a key must be a quoted string"),
    "cut off": ('{"text": "a bad rev', "cut off"),
    "cut off after an inner object": ('{"text": {"text": "x", "threshold": 0.1}, "thre', "cut off"),
    "unfinished think": (f"<think>I would say {PLAIN}", "cut off while thinking"),
    "wrong type": ('{"text": "a", "threshold": "0.5"}', "$.threshold"),
    "boolean for a number": ('{"text": "a", "threshold": true}', "boolean, not number"),
    "missing key": ('{"text": "a"}', "'threshold' is missing"),
    "misspelt key": ('{"text": "a", "treshold": 0.5}', "Did you mean 'threshold'"),
    "out of range": ('{"text": "a", "threshold": 1.5}', "above the maximum 1"),
    "not a choice": ('{"text": "a", "threshold": 0.5, "mode": "quick"}', "is not one of 'fast', 'slow'"),
    "NaN": ('{"text": "a", "threshold": NaN}', "NaN"),
    "infinity": ('{"text": "a", "threshold": Infinity}', "Infinity"),
    "overflow": ('{"text": "a", "threshold": 1e999}', "not a finite number"),
    "huge integer": ('{"text": "a", "threshold": ' + "9" * 5000 + "}", "more than 400 digits"),
    "wrapped": (f'{{"answer": {PLAIN}}}', "unknown key 'answer'"),
    "two different objects": (f'{PLAIN} or {{"text": "b", "threshold": 0.5}}', "2 different JSON values"),
    "same key twice": ('{"text": "a", "threshold": 0.5, "threshold": 0.6}', "given twice"),
    "single quotes with an apostrophe": ("{'text': 'it's bad', 'threshold': 0.5}", "is missing"),
    "too long a text": ('{"text": "' + "x" * 61 + '", "threshold": 0.5}', "length 61"),
    "half a surrogate pair": ('{"text": "\\ud800", "threshold": 0.5}', "surrogate"),
    "huge": ("{" * 1_000_001, "1000001 characters"),
    "deep": ('{"text":' * 100, "cut off|nested deeper"),
    "broken fence": ('```json\n{"text": "a", ', "cut off"),
    "expression": ('{"text": "a", "threshold": 1/2}', "is missing"),
    "schema said back": (json.dumps(SCHEMA), "unknown key"),
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_a_value_is_read_out_of(text: str) -> None:
    assert read_answer(text, SCHEMA) == GOOD


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_answer_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason.replace("$", r"\$").replace(".t", r"\.t")):
        read_answer(text, SCHEMA)


@pytest.mark.parametrize("text", [text for text, _ in REFUSED.values()], ids=REFUSED)
def test_twice_malformed_is_one_clear_error_and_two_requests(text: str) -> None:
    llm = ScriptedLLM([text, text])
    with pytest.raises(AnswerError) as caught:
        llm.complete([{"role": "user", "content": "?"}], schema=SCHEMA)
    assert len(llm.sent) == 2
    assert "after one repair request" in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", [text for text, _ in REFUSED.values()], ids=REFUSED)
def test_one_repair_request_shows_answer_and_fault(text: str) -> None:
    llm = ScriptedLLM([text, PLAIN])
    completion = llm.complete([{"role": "user", "content": "?"}], schema=SCHEMA)
    assert completion.parsed == (GOOD,)
    assert completion.usage.calls == 2
    shown, asked = llm.sent[1][-2:]
    assert shown["content"] == (text[:4000] or "(empty)")
    assert "cannot be used" in asked["content"]


def test_python_literals() -> None:
    assert read_answer("{'a': True, 'b': None, 'c': [False,],}", {}) == {"a": True, "b": None, "c": [False]}


def test_line_breaks_and_escapes_in_strings() -> None:
    assert read_answer('{"a": "one\ntwo \\"x\\" \\u00e9 \\ud83d\\ude00",}', {}) == {"a": 'one\ntwo "x" é 😀'}


@pytest.mark.parametrize(
    ("text", "rest"), [("<think>a</think> b", " b"), ("no block", "no block"), ("x <think>", None)]
)
def test_thinking_is_taken_off_or_refused_when_cut(text: str, rest: str | None) -> None:
    if rest is None:
        with pytest.raises(Unreadable, match="cut off while thinking"):
            without_thinking(text)
    else:
        assert without_thinking(text) == rest


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_what_python_writes_is_read_back(value: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert read_answer(text, {}) == value
    assert read_answer(f"The answer: {text} - done", {"type": "object"}) == value


@given(st.text(alphabet="{}[]\"'\\:,truefalsn0123456789.-eE \n<>/think`", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_answer(text, SCHEMA)
    except Unreadable as refused:
        assert str(refused)
