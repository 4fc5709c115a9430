"""What servers send, read without taking anything for granted."""

from __future__ import annotations

from types import SimpleNamespace as Thing
from typing import Any

import pytest

from engine.llm.response import prompt_tokens, read_response, sendable

ASK = [{"role": "user", "content": "x" * 30}]


def response(*contents: Any, usage: Any = None, **message: Any) -> Thing:
    choices = [Thing(message=Thing(content=content, **message), finish_reason=None) for content in contents]
    return Thing(choices=choices, usage=usage)


@pytest.mark.parametrize(
    ("content", "text"),
    [("a", "a"), (None, ""), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "x"}, 3], "ab")],
)
def test_content_becomes_text(content: Any, text: str) -> None:
    read = read_response(response(content, "z"), ASK, None, 0.5)
    assert read.texts == (text, "z") and read.finish_reasons == ("stop", "stop") and read.usage.seconds == 0.5


@pytest.mark.parametrize(
    "answer",
    [
        "<html>",
        Thing(),
        Thing(choices=[]),
        Thing(choices={"0": 1}),
        Thing(choices=[Thing()]),
        Thing(choices=[Thing(message=None)]),
        response(5),
        response({"text": "a"}),
    ],
    ids=str,
)
def test_what_is_no_completion_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError):
        read_response(answer, ASK, None, 0.0)


@pytest.mark.parametrize("nonsense", [None, -5, "many", True, 2.5])
def test_tokens_that_are_not_told_or_cannot_be_are_estimated(nonsense: Any) -> None:
    usage = Thing(prompt_tokens=nonsense, completion_tokens=nonsense)
    for told in (usage, None):
        used = read_response(response("abcd", "a", usage=told), ASK, None, 0.0).usage
        # 30, 4 and 1 characters at 3 a token, rounded up
        assert (used.calls, used.prompt_tokens, used.completion_tokens) == (1, 10, 3)


def test_told_tokens_are_taken() -> None:
    used = read_response(response("abcd", usage=Thing(prompt_tokens=7, completion_tokens=0)), ASK, None, 0.0).usage
    assert (used.prompt_tokens, used.completion_tokens) == (7, 0)


def test_a_refusal_is_told_from_an_answer() -> None:
    read = read_response(response(None, "", "yes", refusal="I must not."), ASK, None, 0.0)
    assert read.texts == ("I must not.", "I must not.", "yes")
    assert read.finish_reasons == ("refusal", "refusal", "stop")


def test_a_text_far_beyond_max_tokens_is_cut_and_says_so() -> None:
    read = read_response(response("a" * 320, "a" * 321), ASK, 10, 0.0)
    assert [len(text) for text in read.texts] == [320, 320] and read.finish_reasons == ("stop", "length")


def test_a_picture_costs_more_than_its_words() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert prompt_tokens({"content": [{"type": "text", "text": "abc"}, picture]}) == 1501


def test_only_halves_of_surrogate_pairs_are_replaced_in_what_is_sent() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "é\ud83d 😀", "n": 1}], "extra": ("\udc00",)}
    assert sendable(message) == {
        "role": "user", "content": [{"type": "text", "text": "é? 😀", "n": 1}], "extra": ["?"],
    }  # fmt: skip
