"""Edits as SEARCH/REPLACE blocks: read from an answer, and applied to a text."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import AnswerError

_SEARCH = re.compile(r"^[ \t]*<{5,9} ?SEARCH\b(.*)$")
_DIVIDER = re.compile(r"^[ \t]*={5,9}[ \t]*$")
_REPLACE = re.compile(r"^[ \t]*>{5,9} ?REPLACE\b.*$")
_AROUND = 3
"""Lines shown before and after the nearest one where a block does not match."""
_COMPARED = 200
"""Characters of a line that count there: comparing takes time by their square."""


@dataclass(frozen=True)
class Block:
    """Lines that stand in a text, and those that shall; `name`: of the text, where there are several."""

    search: tuple[str, ...]
    replace: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class _Edit:
    """The characters from start to end of a text become `new`."""

    start: int
    end: int
    new: str


def has_blocks(answer: str) -> bool:
    """Whether an answer holds a line that begins or ends a block."""
    return any(_SEARCH.match(line) or _REPLACE.match(line) for line in answer.split("\n"))


def blocks_of(answer: str) -> list[Block]:
    """The blocks of an answer, in order; what stands between them is left out:

        <<<<<<< SEARCH [name]
        lines of the text
        =======
        lines that replace them
        >>>>>>> REPLACE

    Markers have 5 to 9 characters, so a line of as many = cannot be edited by a block. Raises AnswerError for a
    block without divider or end, as an answer that was cut off has.
    """
    found: list[Block] = []
    lines = iter(answer.replace("\r\n", "\n").split("\n"))
    for line in lines:
        if _REPLACE.match(line):
            raise AnswerError(f"'{line.strip()}' ends no block", next_step="begin it with <<<<<<< SEARCH")
        if opened := _SEARCH.match(line):
            place = f"block {len(found) + 1}"
            search = _until(lines, _DIVIDER, f"{place} has no ======= after its SEARCH")
            replace = _until(lines, _REPLACE, f"{place} has no >>>>>>> REPLACE after its =======")
            found.append(Block(search, replace, opened[1].strip(" \t:`'\"")))
    return found


def edited(texts: Mapping[str, str], blocks: Sequence[Block]) -> dict[str, str]:
    """Those of the texts that the blocks edit, as they are then.

    All blocks are matched against the texts as given, so their order is free. A block without the name of a
    text is looked for in all. It is matched by whole lines: exactly, else without blanks at the ends of lines,
    else without indentation (the replacement is then moved as far as the first line has to be); else as a part of
    a text. Raises AnswerError: no such text, no match (with the nearest lines), several matches, overlap.
    """
    edits: dict[str, list[_Edit]] = {}
    for number, block in enumerate(blocks, 1):
        name, edit = _placed(texts, block, f"block {number}")
        edits.setdefault(name, []).append(edit)
    return {name: _applied(texts[name], found) for name, found in edits.items()}


def _until(lines: Iterator[str], end: re.Pattern[str], fault: str) -> tuple[str, ...]:
    found: list[str] = []
    for line in lines:
        if end.match(line):
            return tuple(found)
        if _SEARCH.match(line) or _REPLACE.match(line):
            break
        found.append(line)
    raise AnswerError(fault, next_step="write every block to its end")


def _placed(texts: Mapping[str, str], block: Block, place: str) -> tuple[str, _Edit]:
    """The one place that a block edits, and the text's name."""
    is_named = block.name != "" and len(texts) > 1
    if is_named and block.name not in texts:
        raise AnswerError(f"{place} names '{block.name}'; there are: {', '.join(texts)}")
    asked = [block.name] if is_named else list(texts)
    found = [(name, edit) for name in asked for edit in _matches(texts[name], block)]
    if not found:
        raise AnswerError(_no_match(texts, asked, block, place))
    if len(found) > 1:
        at = ", ".join(f"{name}:{texts[name].count(chr(10), 0, edit.start) + 1}" for name, edit in found[:5])
        raise AnswerError(f"{place} matches {len(found)} places ({at}): add lines around it until it is one place")
    return found[0]


def _matches(text: str, block: Block) -> list[_Edit]:
    """The places found by the first manner of matching that finds any."""
    search = "\n".join(block.search).strip("\n")
    if not search.strip():
        return [] if text.strip() else [_Edit(0, len(text), "\n".join(block.replace))]
    lines = text.split("\n")
    manners: Sequence[Callable[[str], str]] = (str, str.rstrip, str.strip)
    for seen in manners:
        places = _line_places([seen(line) for line in lines], [seen(line) for line in block.search])
        if places:
            return [_line_edit(lines, place, block) for place in places]
    starts = [match.start() for match in re.finditer(re.escape(search), text)]
    return [_Edit(start, start + len(search), "\n".join(block.replace).strip("\n")) for start in starts]


def _line_places(lines: Sequence[str], wanted: Sequence[str]) -> list[int]:
    size = len(wanted)
    return [i for i in range(len(lines) - size + 1) if lines[i : i + size] == wanted]


def _line_edit(lines: Sequence[str], first: int, block: Block) -> _Edit:
    """The block's lines, from line `first` on, with their line breaks, become its replacement."""
    last = first + len(block.search)
    start = sum(len(line) + 1 for line in lines[:first])
    end = start + sum(len(line) + 1 for line in lines[first:last])
    place = next(i for i, line in enumerate(block.search) if line.strip())
    shift = _indent(lines[first + place]) - _indent(block.search[place])
    new = "".join(f"{_moved(line, shift)}\n" for line in block.replace)
    if last == len(lines):  # the last line has no line break
        return _Edit(start, end - 1, new[:-1])
    return _Edit(start, end, new)


def _moved(line: str, shift: int) -> str:
    if not line.strip():
        return line
    return " " * shift + line if shift >= 0 else line[min(-shift, _indent(line)) :]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _applied(text: str, edits: Sequence[_Edit]) -> str:
    """The text after all edits; the same edit given twice counts once."""
    ordered = sorted(set(edits), key=lambda edit: (edit.start, edit.end), reverse=True)
    for later, earlier in itertools.pairwise(ordered):
        if later.start < earlier.end:
            line = text.count("\n", 0, later.start) + 1
            raise AnswerError(f"two blocks edit line {line}: write them as one")
    for edit in ordered:
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def _no_match(texts: Mapping[str, str], asked: Sequence[str], block: Block, place: str) -> str:
    """What was looked for, and the lines around the one that is most like its longest line."""
    sought = max((line.strip()[:_COMPARED] for line in block.search), key=len, default="")
    if not sought:
        return f"{place} has nothing to search for, and there is text already"
    lines = [(name, i, line) for name in asked for i, line in enumerate(texts[name].split("\n"))]
    matcher = difflib.SequenceMatcher(None, b=sought)

    def likeness(at: tuple[str, int, str]) -> float:
        matcher.set_seq1(at[2].strip()[:_COMPARED])
        return matcher.ratio()

    name, nearest, _ = max(lines, key=likeness)
    shown = [f"{i + 1}: {line[:_COMPARED]}" for n, i, line in lines if n == name and abs(i - nearest) <= _AROUND]
    return f"{place} matches nothing: no line {sought!r}. The nearest lines of {name} are\n" + "\n".join(shown)
