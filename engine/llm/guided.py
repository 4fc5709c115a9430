"""Guided decoding: a JSON value written token by token, valid by construction.

The skeleton that the schema fixes (braces, keys, quotes) is forced. The model chooses only what is free:
the text of a string up to its closing quote, the digits of a number within its bounds, one of the choices
of an enum, whether a list goes on. So the smallest model always gives a usable answer; how good
it is stays its own affair. Texts hold no double quote, backslash or line break.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any

import torch

from engine.llm.free_parts import Number, OneOf, Part, Text
from engine.llm.sampling import Sampler
from engine.llm.schema import Schema, type_names
from engine.llm.vocabulary import Vocabulary

Script = Generator[str | Part, None, str]
"""Yields forced texts and free parts in order; a part is done when the script goes on."""

LEAST_TEXT_TOKENS = 8
MAX_ITEMS = 8


def can_guide(schema: Schema) -> bool:
    """Whether the schema fixes a skeleton; one that allows any value, or any keys, does not."""
    if "const" in schema or schema.get("enum"):
        return True
    kind = _kind(schema)
    if kind == "object":
        return bool(schema.get("properties")) and all(can_guide(inner) for inner in schema["properties"].values())
    if kind == "array":
        return "items" in schema and can_guide(schema["items"])
    return kind is not None


class GuidedRow:
    """One choice under way: `next` takes the logits and gives a token, until `is_done`.

    max_tokens is shared among the schema's texts; the skeleton comes on top, so that the value is always whole.
    """

    def __init__(self, vocabulary: Vocabulary, schema: Schema, sampler: Sampler, max_tokens: int) -> None:
        self.text, self.finish_reason = "", "stop"
        self._vocabulary, self._sampler = vocabulary, sampler
        text_tokens = max(LEAST_TEXT_TOKENS, max_tokens // max(1, _count_texts(schema)))
        self._script = _Writer(vocabulary, text_tokens).value(schema, "\n")
        self._forced: list[int] = []
        self._part: Part | None = None
        self._advance()

    @property
    def is_done(self) -> bool:
        return not self._forced and self._part is None

    def take_forced(self) -> list[int]:
        """The tokens that come next whatever the model says."""
        forced, self._forced = self._forced, []
        return forced

    def next(self, logits: torch.Tensor) -> int:
        """The next token, given the logits (V,)."""
        part = self._part
        if self._forced or part is None:
            return self._forced.pop(0)
        allowed = part.allowed()
        token = int(allowed[0]) if len(allowed) == 1 else self._sampler.pick(logits, allowed)
        part.take(token)
        if part.is_done:
            self.finish_reason = "length" if part.is_cut else self.finish_reason
            self.text += part.text
            self._advance(part.consumed)
        return token

    def _advance(self, consumed: str = "") -> None:
        """Go on to the next free part; forced texts before it are joined, then made tokens."""
        literal, self._part = "", None
        for item in self._script:
            if isinstance(item, Part):
                self._part = item
                break
            literal += item
        self.text += literal
        # What ended a number stands there already.
        self._forced = self._vocabulary.encode(literal.removeprefix(consumed))


class _Writer:
    """The script of a schema's value. `ends`: the characters that may follow it.

    A script returns the following character that its last part consumed, or "".
    """

    def __init__(self, vocabulary: Vocabulary, text_tokens: int) -> None:
        self._vocabulary, self._text_tokens = vocabulary, text_tokens

    def value(self, schema: Schema, ends: str) -> Script:
        kind = _kind(schema)
        if "const" in schema:
            yield _json(schema["const"])
        elif "enum" in schema:
            return (yield from self._free(OneOf(self._vocabulary, _choices(schema["enum"], ends))))
        elif kind == "object":
            yield from self._object(schema)
        elif kind == "array":
            yield from self._array(schema)
        elif kind == "string":
            yield '"'
            yield Text(self._vocabulary, schema, self._text_tokens)
        elif kind in ("number", "integer"):
            return (yield from self._free(Number(self._vocabulary, schema, ends)))
        elif kind == "boolean":
            yield OneOf(self._vocabulary, _choices([True, False], ends))
        else:
            yield "null"
        return ""

    def _free(self, part: Part) -> Script:
        yield part
        return part.consumed

    def _object(self, schema: Schema) -> Script:
        last = len(schema["properties"]) - 1
        for index, (key, inner) in enumerate(schema["properties"].items()):
            yield ("{" if index == 0 else ", ") + f"{_json(key)}: "
            yield from self.value(inner, "}" if index == last else ",")
        yield "}"
        return ""

    def _array(self, schema: Schema) -> Script:
        """At least one item where one may be; after each, the model says whether the list goes on."""
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, MAX_ITEMS))
        yield "["
        for index in range(most):
            ends = "," if index + 1 < least else ",]" if index + 1 < most else "]"
            end = yield from self.value(schema["items"], ends)
            if not end:
                end = yield from self._free(OneOf(self._vocabulary, [("", character) for character in ends]))
            if end == "]":
                break
            yield ", "
        yield "]"
        return ""


def _choices(values: Sequence[Any], ends: str) -> list[tuple[str, str]]:
    """Each value's JSON; a number with each character that may end it, since 1 is the start of 10."""
    pairs = []
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        pairs += [(_json(value), end) for end in (ends if is_number else ("",))]
    return pairs


def _count_texts(schema: Schema) -> int:
    """How many strings the model writes."""
    kind = _kind(schema)
    if "const" in schema or "enum" in schema:
        return 0
    if kind == "object":
        return sum(_count_texts(inner) for inner in schema["properties"].values())
    if kind == "array":
        return max(1, int(schema.get("minItems", 1))) * _count_texts(schema["items"])
    return int(kind == "string")


def _kind(schema: Schema) -> str | None:
    """The type to write: the first that is not null; None where the schema leaves it open."""
    names = type_names(schema)
    return next((name for name in names if name != "null"), names[0] if names else None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
