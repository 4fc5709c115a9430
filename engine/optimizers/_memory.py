"""A memory of strategies: bounded, checked, and kept in a file that several runs may share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import DataError, InputError
from engine.jsonfiles import json_text, locked, read_json, write_json
from engine.llm.schema import Schema, faults

FORMAT = 1
SITUATION, STRATEGY, OUTCOME, VALUES, TEXT = 200, 600, 300, 1500, 300
"""The longest texts, in characters: of an entry's three parts, of values, of what was said about a run."""

WAITING = 64
"""How many experiences wait for consolidation; the oldest are dropped first."""

_ID = {"type": "string", "minLength": 1, "maxLength": 40}
_SCORE = {"type": ["number", "null"]}


def _text(limit: int) -> Schema:
    return {"type": "string", "maxLength": limit}


def _closed(properties: Mapping[str, Any]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Experience:
    """One evaluation that was not consolidated yet; `values` and `texts` are cut for a prompt."""

    id: str
    strategy: str
    values: str
    score: float | None
    failed: int = 0
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One lesson, borne out by `count` evaluations; the `scored` of them have the mean `score`, the best `best`."""

    id: str
    situation: str
    strategy: str
    outcome: str
    count: int = 0
    scored: int = 0
    score: float | None = None
    best: str = ""
    best_score: float | None = None

    def with_evidence(self, experiences: Iterable[Experience]) -> Entry:
        """The entry with further evaluations; those without a score are counted and change no mean."""
        entry = self
        for seen in experiences:
            entry = replace(entry, count=entry.count + 1)
            if seen.score is None:
                continue
            scored, mean = entry.scored + 1, entry.score or 0.0
            entry = replace(entry, scored=scored, score=mean + (seen.score - mean) / scored)
            if entry.best_score is None or seen.score > entry.best_score:
                entry = replace(entry, best=seen.values, best_score=seen.score)
        return entry


ENTRY = _closed(
    {
        "id": _ID,
        "situation": _text(SITUATION),
        "strategy": _text(STRATEGY),
        "outcome": _text(OUTCOME),
        "count": {"type": "integer", "minimum": 0},
        "scored": {"type": "integer", "minimum": 0},
        "score": _SCORE,
        "best": _text(VALUES),
        "best_score": _SCORE,
    }
)
EXPERIENCE = _closed(
    {
        "id": _ID,
        "strategy": _text(STRATEGY),
        "values": _text(VALUES),
        "score": _SCORE,
        "failed": {"type": "integer", "minimum": 0},
        "texts": {"type": "array", "items": _text(TEXT), "maxItems": 3},
    }
)
MEMORY = _closed(
    {
        "format": {"const": FORMAT},
        "entries": {"type": "array", "items": ENTRY},
        "waiting": {"type": "array", "items": EXPERIENCE},
    }
)


@dataclass(frozen=True)
class Memory:
    """The entries, oldest first, and the experiences that wait. A value: every change gives another memory."""

    entries: tuple[Entry, ...] = ()
    waiting: tuple[Experience, ...] = ()

    @classmethod
    def of(cls, data: Any, place: str) -> Memory:
        """The memory that JSON data hold. Raises DataError naming the fault."""
        fault = next(faults(data, MEMORY), None)
        if fault is not None:
            raise DataError(f"not a memory of strategies: {fault}", place=place, next_step="give another file")
        waiting = [Experience(**{**row, "texts": tuple(row["texts"])}) for row in data["waiting"]]
        return cls(tuple(Entry(**row) for row in data["entries"]), tuple(waiting))

    def to_json(self) -> dict[str, Any]:
        entries, waiting = map(dataclasses.asdict, self.entries), map(dataclasses.asdict, self.waiting)
        return {
            "format": FORMAT,
            "entries": list(entries),
            "waiting": [{**w, "texts": list(w["texts"])} for w in waiting],
        }

    def key(self) -> str:
        """A short name of the content."""
        return hashlib.sha256(json_text(self.to_json()).encode()).hexdigest()[:16]

    def ranked(self) -> list[Entry]:
        """The entries, the highest score first, those without one last."""
        return sorted(self.entries, key=lambda e: (e.score is None, -(e.score or 0.0), e.id))

    def bounded(self, size: int) -> Memory:
        """At most `size` entries: the better half by score, and of the others those that are borne out the most.

        So many dull lessons do not drive out a good new one. Which go depends on the set of entries alone, not on
        their order, and what went would go again: that makes a repeated `Store.merge` harmless.
        """
        ranked, half = self.ranked(), (size + 1) // 2
        good, others = ranked[:half], ranked[half:]
        others = sorted(others, key=lambda e: (-e.count, e.id))[: size - len(good)]
        kept = {entry.id for entry in (*good, *others)}
        return Memory(tuple(e for e in self.entries if e.id in kept), self.waiting[-WAITING:])


@dataclass
class Store:
    """The file of a memory, which several runs may read and write. `path` None: there is no file."""

    path: Path | None
    size: int
    gone: dict[str, None] = field(default_factory=dict)
    """The ids that this run took out, in order: removed entries, experiences that it consolidated."""

    def load(self) -> Memory:
        """What the file holds; an empty memory where there is none. Raises DataError, and InputError for no folder."""
        if self.path is None or not self.path.exists():
            if self.path is not None and not self.path.parent.is_dir():
                raise InputError("the folder of the memory is not there", place=str(self.path))
            return Memory()
        return Memory.of(read_json(self.path), str(self.path)).bounded(self.size)

    def merge(self, memory: Memory) -> None:
        """Write the memory into the file, beside what other runs wrote there. Writing it again changes nothing.

        Of an entry that both have, the one with more evidence stays, of equals this run's; what this run took
        out goes. Evidence that two runs add to one entry at the same time is so counted once, the larger.
        """
        if self.path is None:
            return
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            there = self.load()
            entries = {entry.id: entry for entry in there.entries if entry.id not in self.gone}
            for entry in memory.entries:
                if entry.id not in entries or entries[entry.id].count <= entry.count:
                    entries[entry.id] = entry
            waiting = {seen.id: seen for seen in (*there.waiting, *memory.waiting) if seen.id not in self.gone}
            merged = Memory(tuple(entries.values()), tuple(waiting.values())).bounded(self.size)
            if merged != there or not self.path.exists():
                write_json(self.path, merged.to_json())


def cut(text: str, limit: int) -> str:
    """The text on one line, its end cut off and marked beyond the limit, and without what JSON cannot hold."""
    text = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def told(entries: Sequence[Entry]) -> list[str]:
    """The entries as lines of a prompt, numbered from 1."""
    return [
        f"{number}. situation: {e.situation}\n   strategy: {e.strategy}\n   outcome: {e.outcome}\n"
        f"   evidence: {e.count}, mean score {_number(e.score)}"
        + (f"\n   best: score {_number(e.best_score)} with {e.best}" if e.best else "")
        for number, e in enumerate(entries, 1)
    ]


def recounted(experiences: Sequence[Experience]) -> list[str]:
    """The experiences as lines of a prompt, numbered from 1."""
    return [
        f"{number}. strategy: {e.strategy or 'not told'}\n   values: {e.values}\n   score: {_number(e.score)}"
        + (f", {e.failed} runs failed" if e.failed else "")
        + "".join(f"\n   said: {text}" for text in e.texts)
        for number, e in enumerate(experiences, 1)
    ]


def _number(score: float | None) -> str:
    return "none" if score is None else f"{score:.4g}"
