"""One question to annotators: a prompt, candidates, and how they are to be ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from engine.errors import InputError
from engine.media import Media
from engine.ranking.content import as_shown, digest
from engine.ranking.ranking import Ranking

Mode = Literal["full", "top", "pair", "best"]
MODES: tuple[Mode, ...] = get_args(Mode)
MOST = 9


@dataclass(frozen=True)
class Question:
    """What is asked of every annotator alike.

    prompt: what the candidates answer, as Markdown. candidates: what is ranked; the same content counts once, their
    order says nothing. mode: `full` puts all in order, `top` the k best, `pair` two, `best` names one. votes: how many
    annotators' answers are wanted. gold: the right ranking of candidate ids, where it is known, to tell how well
    annotators do; they do not see it. repeat: a further showing of the same question, to tell how steady they are.

    Raises InputError for fewer than two different candidates, more than nine, a pair that is none, and a k that is
    not among them.
    """

    prompt: str
    candidates: tuple[Any, ...]
    mode: Mode = "full"
    k: int | None = None
    votes: int = 1
    gold: Ranking | None = None
    repeat: int = 0
    shown: Mapping[str, dict[str, Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"the mode is {self.mode!r}", allowed=", ".join(MODES))
        shown = {candidate_id(value): as_shown(value) for value in self.candidates}
        object.__setattr__(self, "shown", dict(sorted(shown.items())))
        most = 2 if self.mode == "pair" else MOST
        if not 2 <= len(shown) <= most:
            raise InputError(
                f"{len(shown)} different candidates in mode {self.mode}",
                allowed="two" if self.mode == "pair" else f"2 to {most}: more cannot be ranked with care",
            )
        if self.mode == "top" and (self.k is None or not 1 <= self.k <= len(shown)):
            raise InputError(f"k is {self.k!r} in mode top", allowed=f"1 to {len(shown)}, as many as there are")
        if self.votes < 1:
            raise InputError(f"votes is {self.votes}", allowed="at least 1")
        if self.gold is not None and set(self.gold.ids) != set(shown):
            raise InputError("the gold ranking is of other candidates", allowed="a Ranking of their candidate_id")

    @cached_property
    def original(self) -> str:
        """The id of the first showing."""
        return digest([self.prompt, self.mode, self.k if self.mode == "top" else None, list(self.shown)])

    @cached_property
    def id(self) -> str:
        """A hash of what is asked: the same question has the same id in every process."""
        return digest([self.original, self.repeat]) if self.repeat else self.original

    @property
    def blobs(self) -> dict[str, Media]:
        """sha256 -> the pictures and sounds among the candidates."""
        return {value.sha256: value for value in self.candidates if isinstance(value, Media)}


def candidate_id(value: Any) -> str:
    """The name of a candidate: a hash of what is shown of it."""
    return digest(as_shown(value))
