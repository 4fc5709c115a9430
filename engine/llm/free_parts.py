"""What a model may choose inside a JSON skeleton: a text, a number, one of some choices.

A part says which tokens may come next, takes one, and knows when it `is_done`. `text` is then what it became
and `consumed` the following character that ended it, if one did. `is_cut`: it was ended by its budget.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from engine.llm.schema import Schema, faults, type_names
from engine.llm.vocabulary import Vocabulary

MAX_DIGITS = 12
MAX_DECIMALS = 6

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
        low = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
        high = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
        self._low, self._high = max(low, default=None), min(high, default=None)

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
        ends = [float(bound) for bound in (self._low, self._high) if bound is not None]
        return next((bound for bound in ends if self._is_good(bound)), sum(ends) / max(len(ends), 1))

    def _can_become_good(self, start: str) -> bool:
        """Whether some number that begins with these characters lies within the bounds."""
        match = _STARTED.fullmatch(start)
        if not match or (self._is_integer and "." in start):
            return False
        negative, digits, decimals = match[1] == "-", match[2], match[3]
        if not digits:
            return decimals is None and (not negative or self._low is None or self._low < 0)
        if len(digits) > MAX_DIGITS or len(decimals or "") > MAX_DECIMALS:
            return False
        return any(self._overlaps(low, high, negative) for low, high in _reach(digits, decimals, self._is_integer))

    def _overlaps(self, low: Fraction, high: Fraction, negative: bool) -> bool:
        """Whether the values low up to, but without, high meet the bounds; mirrored when negative."""
        above, below = (self._low, self._high)
        if negative:
            return (above is None or -low >= above) and (below is None or -high < below)
        return (above is None or high > above) and (below is None or low <= below)


def _reach(digits: str, decimals: str | None, is_integer: bool) -> list[tuple[Fraction, Fraction]]:
    """The half-open ranges of values whose decimal notation goes on from these digits."""
    if decimals is not None:
        start = Fraction(int(digits + decimals), 10 ** len(decimals))
        # With all decimals written the number is what it is.
        return [(start, start + (Fraction(1, 10 ** len(decimals)) if len(decimals) < MAX_DECIMALS else _TINY))]
    value, longest = int(digits), 0 if digits == "0" else MAX_DIGITS - len(digits)
    # An integer reaches up to its last digit's 9; the open end is just above that.
    shorter = 1 - _TINY if is_integer else Fraction(0)
    return [(Fraction(value * 10**n), (value + 1) * 10**n - shorter) for n in range(longest + 1)]
