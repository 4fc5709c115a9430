"""What a form sends, read with suspicion: places, flags, a note; and the ranking that they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import InputError
from engine.ranking.desk import Assigned, entries_of
from engine.ranking.ranking import Ranking

MAX_NOTE = 2000
REASONS = frozenset({"cannot tell", "broken", "offensive", "other"})
_PLACE = re.compile(r"[1-9]")
_FORM = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class Entries:
    """The fields of one form; `places`: candidate id -> 1 for the best, equal numbers for a tie."""

    form: str
    places: dict[str, int]
    note: str
    all_bad: bool
    reason: str

    def draft(self) -> dict[str, Any]:
        return entries_of(self.places, note=self.note, all_bad=self.all_bad)


def read(fields: Mapping[str, Any], assigned: Assigned) -> Entries:
    """The fields of a form for this question. Raises InputError for what no form of ours sends."""
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    places = {}
    for letter, (one, _) in assigned.candidates.items():
        value = texts.get(f"place_{letter}", "").strip()
        if value and not _PLACE.fullmatch(value):
            raise InputError(f"the place of {letter} is {value!r:.40}", allowed="nothing, or 1 to 9")
        if value:
            places[one] = int(value)
    note = texts.get("note", "").replace("\r\n", "\n").replace("\x00", "").strip()
    note = note.encode("utf-8", "replace").decode("utf-8")
    if len(note) > MAX_NOTE:
        raise InputError(f"the note has {len(note)} characters", allowed=f"at most {MAX_NOTE}")
    form = texts.get("form_id", "")
    if not _FORM.fullmatch(form):
        raise InputError("the form has no number of its own", next_step="open the page again")
    reason = texts.get("reason", "")
    return Entries(form, places, note, texts.get("all_bad") == "on", reason if reason in REASONS else "other")


def ranking_of(entries: Entries, assigned: Assigned) -> Ranking:
    """The ranking that the places mean. Raises InputError, in words for the annotator, where the mode wants more."""
    tiers: dict[int, list[str]] = {}
    for one, place in sorted(entries.places.items(), key=lambda item: (item[1], assigned.letters[item[0]])):
        tiers.setdefault(place, []).append(one)
    ids = [one for one, _ in assigned.candidates.values()]
    rest = [one for one in ids if one not in entries.places]
    _check(assigned, list(tiers.values()), rest)
    return Ranking(list(tiers.values()), rest, all_bad=entries.all_bad, note=entries.note)


def skipped(entries: Entries, assigned: Assigned) -> Ranking:
    """The answer of somebody who skips: that they cannot judge, and why."""
    note = f"{entries.reason}: {entries.note}" if entries.note else entries.reason
    return Ranking(unranked=[one for one, _ in assigned.candidates.values()], cannot_judge=True, note=note)


def _check(assigned: Assigned, tiers: list[list[str]], rest: list[str]) -> None:
    placed = sum(map(len, tiers))
    letters = ", ".join(assigned.letters[one] for one in rest)
    if assigned.mode == "best" and placed != 1:
        raise InputError(f"{placed} are marked as the best. Choose one.")
    if assigned.mode in ("full", "pair") and rest:
        raise InputError(f"Not placed yet: {letters}.")
    if assigned.mode == "top" and placed < (assigned.k or 1):
        raise InputError(f"{placed} are placed, and the best {assigned.k} are wanted.")
