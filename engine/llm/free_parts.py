"""What a model may choose inside a JSON skeleton: a text, a number, one of some choices.

A part says which tokens may come next, takes one, and knows when it `is_done`. `text` is then what it became
and `consumed` the following character that ended it, if one did. `is_cut`: it was ended by its budget.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch

from engine.llm.schema import Schema, faults, type_names
from engine.llm.vocabulary import Vocabulary

MAX_DIGITS = 12
MAX_DECIMALS = 6

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_TINY = Fraction(1, 10**9)
_COMPLETE = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_STARTED = re.compile(r"(-?)(0|[1-9]\d*|)(?:\.(\d*))?")


class Part:
    """A free part of a value."""

    text = ""
    consumed = ""
    is_done = False
    is_cut = False

    def allowed(self) -> torch.Tensor:
        """Ids of the tokens that may come next; at least one."""
        raise NotImplementedError

    def take(self, token: int) -> None:
        """Go on with a token that was allowed."""
        raise NotImplementedError


class Text(Part):
    """The inside of a string and its closing quote, within minLength, maxLength and a budget of tokens."""

    def __init__(self, vocabulary: Vocabulary, schema: Schema, max_tokens: int) -> None:
        self._vocabulary, self._left = vocabulary, max_tokens
        self._least, self._most = schema.get("minLength", 0), schema.get("maxLength")
        self._quote = vocabulary.encode('"')[:1]

    def allowed(self) -> torch.Tensor:
        length, words = len(self.text), self._vocabulary
        can_close = words.closing_length + length >= self._least
        plain, closing = words.plain, words.closing
        if self._most is not None:
            plain = plain[words.plain_length + length <= self._most]
            can_close &= words.closing_length + length <= self._most
        closing = closing[can_close]
        if (self._left <= 0 and length >= self._least) or not len(plain):
            self.is_cut = self._left <= 0
            return torch.tensor(self._quote)
        return torch.cat([plain, closing])

    def take(self, token: int) -> None:
        self._left -= 1
        self.text += self._vocabulary.text[token]
        if self.text.endswith('"'):
            self.is_done = True
            if self.is_cut:
                self.text = self._to_word_end(self.text[:-1]) + '"'

    def _to_word_end(self, text: str) -> str:
        """Without the word that the budget cut, unless the text would get too short."""
        whole = text.rpartition(" ")[0].rstrip()
        return whole if whole and len(whole) >= self._least else text


class OneOf(Part):
    """One of some texts, chosen token by token with the model's own probabilities.

    choices: (text, following character that belongs to the choice or ""), no one the start of another.
    """

    def __init__(self, vocabulary: Vocabulary, choices: Sequence[tuple[str, str]]) -> None:
        self._choices = {choice: vocabulary.encode(choice[0] + choice[1]) for choice in choices}
        self._at = 0

    def allowed(self) -> torch.Tensor:
        return torch.tensor(sorted({ids[self._at] for ids in self._choices.values()}))

    def take(self, token: int) -> None:
        self._choices = {choice: ids for choice, ids in self._choices.items() if ids[self._at] == token}
        self._at += 1
        (self.text, self.consumed), ids = next(iter(self._choices.items()))
        self.is_done = len(self._choices) == 1 and self._at == len(ids)


class Number(Part):
    """A decimal number within the schema's bounds, ended by one of the characters that may follow it."""

    def __init__(self, vocabulary: Vocabulary, schema: Schema, ends: str) -> None:
        self._schema, self._is_integer = schema, "integer" in type_names(schema)
        self._numeric = vocabulary.numeric
        self._ends = {vocabulary.encode(end)[0]: end for end in ends}
        self._low, self._high = _bounds(schema)

    def allowed(self) -> torch.Tensor:
        ids = [token for token, text in self._numeric.items() if self._can_become_good(self.text + text)]
        if _COMPLETE.fullmatch(self.text) and self._is_good(json.loads(self.text)):
            ids += self._ends
        # Bounds so narrow that no short decimal lies between them end here; the text is then replaced.
        return torch.tensor(ids or list(self._ends))

    def take(self, token: int) -> None:
        if token not in self._ends:
            self.text += self._numeric[token]
            return
        self.consumed, self.is_done = self._ends[token], True
        if not (_COMPLETE.fullmatch(self.text) and self._is_good(json.loads(self.text))):
            self.text, self.is_cut = json.dumps(self._inside()), True

    def _is_good(self, value: Any) -> bool:
        return next(faults(value, self._schema), None) is None

    def _inside(self) -> float:
        """A number between the bounds, whatever its digits."""
        low = self._low.value if self._low else self._high.value - 2 if self._high else Fraction(0)
        high = self._high.value if self._high else low + 2
        tries = [int(bound) if self._is_integer else float(bound) for bound in (low, high, (low + high) / 2)]
        return next((value for value in tries if self._is_good(value)), tries[-1])

    def _can_become_good(self, start: str) -> bool:
        """Whether some number that begins with these characters lies within the bounds."""
        match = _STARTED.fullmatch(start)
        if not match or (self._is_integer and "." in start):
            return False
        negative, digits, decimals = match[1] == "-", match[2], match[3]
        if not digits:
            return decimals is None and (not negative or self._low is None or self._low.value < 0)
        if len(digits) > MAX_DIGITS or len(decimals or "") > MAX_DECIMALS:
            return False
        if len(decimals or "") == MAX_DECIMALS:
            return self._is_good(json.loads(start))
        return any(self._overlaps(low, high, negative) for low, high in _reach(digits, decimals, self._is_integer))

    def _overlaps(self, low: Fraction, high: Fraction, negative: bool) -> bool:
        """Whether the values low up to, but without, high meet the bounds; mirrored when negative."""
        near, far = (self._high, self._low) if negative else (self._low, self._high)
        sign = -1 if negative else 1
        above_near = near is None or high > sign * near.value
        return above_near and (far is None or low < sign * far.value or (low == sign * far.value and not far.is_open))


class _Bound(NamedTuple):
    value: Fraction
    is_open: bool


def _bounds(schema: Schema) -> tuple[_Bound | None, _Bound | None]:
    """The least and greatest number; for integers the closed bounds that are integers themselves."""
    # By its digits, since 0.3 as a fraction lies a little below the decimal 0.3 that is to be written.
    given = {key: Fraction(str(schema[key])) for key in _BOUNDS if key in schema}
    lows = [_Bound(value, key != "minimum") for key, value in given.items() if key.lower().endswith("minimum")]
    highs = [_Bound(value, key != "maximum") for key, value in given.items() if key.lower().endswith("maximum")]
    low = max(lows, default=None)
    high = min(highs, key=lambda bound: (bound.value, not bound.is_open), default=None)
    if "integer" in type_names(schema):
        low = low and _Bound(Fraction(math.floor(low.value) + 1 if low.is_open else math.ceil(low.value)), False)
        high = high and _Bound(Fraction(math.ceil(high.value) - 1 if high.is_open else math.floor(high.value)), False)
    return low, high


def _reach(digits: str, decimals: str | None, is_integer: bool) -> list[tuple[Fraction, Fraction]]:
    """The half-open ranges of values whose decimal notation goes on from these digits."""
    if decimals is not None:
        unit = Fraction(1, 10 ** len(decimals))
        start = int(digits + decimals) * unit
        return [(start, start + unit)]
    value, longest = int(digits), 0 if digits == "0" else MAX_DIGITS - len(digits)
    # An integer reaches up to its last digit's 9; the open end is just above that.
    shorter = 1 - _TINY if is_integer else Fraction(0)
    return [(Fraction(value * 10**n), (value + 1) * 10**n - shorter) for n in range(longest + 1)]
