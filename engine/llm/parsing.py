"""Reading a JSON value out of what a language model wrote.

Accepted besides plain JSON: a finished <think> block before it, code fences and prose around it, trailing
commas, single-quoted strings, Python's True/False/None, raw line breaks in strings. Refused, with
the reason: nothing there, a value cut off, two different values, a key given twice, numbers
that JSON does not have. Nothing is guessed: a text is either read exactly or refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

from engine.llm.schema import Schema, faults, type_names

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 64
MAX_DIGITS = 400

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"-?[A-Za-z]+")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_FENCED = re.compile(r"```\w*\s*\n(.*?)\n?\s*```", re.DOTALL)
_JSON_STARTS = {"{", "[", '"', "`"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Unreadable(ValueError):
    """Why a text holds no usable JSON value."""


class _CutOff(Unreadable):
    """The text ends inside a value."""


def read_answer(text: str, schema: Schema) -> Any:
    """The one JSON value in a model's answer that satisfies the schema. Raises Unreadable."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"the answer has {len(text)} characters, more than {MAX_CHARACTERS}")
    text = without_thinking(text).strip()
    if not text:
        raise Unreadable("the answer is empty")
    values = _values(text, schema)
    good = [value for value in values if next(faults(value, schema), None) is None]
    if not good:
        problems = list(faults(values[0], schema))
        raise Unreadable("; ".join(problems[:5]))
    if any(value != good[0] for value in good[1:]):
        raise Unreadable(f"the answer holds {len(good)} different JSON values; exactly one is wanted")
    return good[0]


def without_thinking(text: str) -> str:
    """The text after a model's <think> block. Raises Unreadable when the block never ends."""
    if text.lstrip()[:1] in _JSON_STARTS:
        return text
    for tag in ("think", "thinking", "reasoning"):
        opened, closed = text.rfind(f"<{tag}>"), text.rfind(f"</{tag}>")
        if opened > closed:
            raise Unreadable(f"the answer ends inside <{tag}>: it was cut off while thinking")
        # Some chat templates open the block in the prompt, so that only its end is in the answer.
        if closed >= 0:
            text = text[closed + len(tag) + 3 :]
    return text


def _values(text: str, schema: Schema) -> list[Any]:
    """The JSON values that stand in the text, first to last; at least one."""
    fenced = _FENCED.fullmatch(text)
    try:
        return [_strict(fenced[1] if fenced else text)]
    except Unreadable:
        raise
    except (ValueError, RecursionError):
        pass
    names = type_names(schema)
    if names and not {"object", "array"} & set(names):
        raise Unreadable("the answer is not a JSON value")
    openers = "{" if names == ["object"] else "[" if names == ["array"] else "{["
    found, at, problem = [], 0, "the answer holds no JSON value"
    while (start := _first_of(openers, text, at)) >= 0:
        try:
            value, at = _Reader(text).value(start)
            found.append(value)
        except _CutOff as cut:
            # What lies inside an unfinished value is a part, never the answer.
            raise Unreadable(f"{cut}: the answer was cut off") from None
        except _Broken as broken:
            problem, at = str(broken), max(broken.at, start + 1)
    if not found:
        raise Unreadable(problem)
    return found


class _Broken(Unreadable):
    def __init__(self, message: str, at: int) -> None:
        super().__init__(f"{message} at character {at + 1}")
        self.at = at


def _strict(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, strict=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its pairs; a key with two different values is refused."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value and value[key] != item:
            raise Unreadable(f"the key '{key}' is given twice with different values")
        value[key] = item
    return value


def _no_constant(word: str) -> Any:
    raise Unreadable(f"{word} is not a JSON number")


def _first_of(characters: str, text: str, start: int) -> int:
    places = [place for c in characters if (place := text.find(c, start)) >= 0]
    return min(places, default=-1)


class _Reader:
    """One pass over the text by recursive descent; every method gives the value and where it ends."""

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, at: int, depth: int = 0) -> tuple[Any, int]:
        if depth > MAX_DEPTH:
            raise _Broken(f"nested deeper than {MAX_DEPTH}", at)
        at, character = self._skip(at)
        if character == "{":
            return self._object(at + 1, depth)
        if character == "[":
            return self._array(at + 1, depth)
        if character in "\"'":
            return self._string(at)
        if number := _NUMBER.match(self.text, at):
            if number.end() - at > MAX_DIGITS:
                raise _Broken(f"a number of more than {MAX_DIGITS} digits", at)
            return json.loads(number[0]), number.end()
        return self._word(at)

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        pairs: list[tuple[str, Any]] = []
        while True:
            at, character = self._skip(at)
            if character == "}":
                return _unique(pairs), at + 1
            if character not in "\"'":
                raise _Broken("a key must be a quoted string", at)
            key, at = self._string(at)
            at, character = self._skip(at)
            if character != ":":
                raise _Broken("':' is missing after a key", at)
            item, at = self.value(at + 1, depth + 1)
            pairs.append((key, item))
            at = self._comma(at, "}")

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while True:
            at, character = self._skip(at)
            if character == "]":
                return items, at + 1
            item, at = self.value(at, depth + 1)
            items.append(item)
            at = self._comma(at, "]")

    def _comma(self, at: int, closer: str) -> int:
        """Past the comma, or at the closer."""
        at, character = self._skip(at)
        if character == closer:
            return at
        if character != ",":
            raise _Broken(f"',' or '{closer}' is missing", at)
        return at + 1

    def _string(self, at: int) -> tuple[str, int]:
        quote, start, parts = self.text[at], at, []
        at += 1
        while at < len(self.text) and (character := self.text[at]) != quote:
            if character == "\\":
                character, at = self._escape(at + 1)
            else:
                at += 1
            parts.append(character)
        if at >= len(self.text):
            raise _CutOff(f"the string that starts at character {start + 1} does not end")
        text = "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return text, at + 1

    def _escape(self, at: int) -> tuple[str, int]:
        """The character that an escape means, and the place after it."""
        if at >= len(self.text):
            raise _CutOff("the text ends inside an escape")
        if self.text[at] != "u":
            return _ESCAPES.get(self.text[at], self.text[at]), at + 1
        digits = self.text[at + 1 : at + 5]
        if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
            raise _Broken(f"'\\u{digits}' is not a character", at)
        return chr(int(digits, 16)), at + 5

    def _word(self, at: int) -> tuple[Any, int]:
        word = _WORD.match(self.text, at)
        if word and word[0] in _WORDS:
            return _WORDS[word[0]], word.end()
        raise _Broken(f"{self.text[at : at + 12]!r} is not a JSON value", at)

    def _skip(self, at: int) -> tuple[int, str]:
        """The next place that is not white space, and its character."""
        space = _SPACE.match(self.text, at)
        at = space.end() if space else at
        if at >= len(self.text):
            raise _CutOff("the value does not end")
        return at, self.text[at]
