"""Training examples that a proposed value repeats word for word."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

RUN = 8
"""So many words in a row that an example has too are a copy."""

LEAST = 5
"""An example's text of so many words is a copy if it is repeated as a whole; shorter ones are ordinary speech."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")

Words = tuple[str, ...]


class Copies:
    """Finds in a text what it shares with examples: RUN words in a row, or a whole text of LEAST or more.

    examples: any data; the texts in mappings, sequences and attributes of dataclasses count one by one. own: texts that
    may be repeated, such as the starting values. Words are compared without case and punctuation. The memory is
    about 200 bytes a word of the examples.
    """

    def __init__(self, examples: Iterable[Any], own: Iterable[str] = ()) -> None:
        mine = {run for text in own for size in range(LEAST, RUN + 1) for run in _runs(_words(text), size)}
        self._runs: dict[Words, int] = {}
        for number, example in enumerate(examples):
            for text in _texts(example):
                words = _words(text)
                size = min(len(words), RUN)
                if size >= LEAST:
                    self._runs |= {run: number for run in _runs(words, size) if run not in mine}
        self._sizes = sorted({len(run) for run in self._runs}, reverse=True)

    def found(self, value: Any) -> str:
        """The words of a value that are an example's, and the example's number; nothing where there are none."""
        for text in _texts(value):
            words = _words(text)
            for size in self._sizes:
                for run in _runs(words, size):
                    if run in self._runs:
                        return f"repeats example {self._runs[run] + 1} word for word: '{' '.join(run)}'"
        return ""


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        for item in value:
            yield from _texts(item)
    elif dataclasses.is_dataclass(value):
        yield from _texts([getattr(value, field.name, None) for field in dataclasses.fields(value)])


def _words(text: str) -> Words:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _runs(words: Words, size: int) -> Iterator[Words]:
    return (words[start : start + size] for start in range(len(words) - size + 1))
