"""What every source of prompts is: batches for training, splits for evaluation, a state to resume from."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from engine.config import Config
from engine.errors import DataError, did_you_mean
from rl.sources._cursor import Cursor
from rl.types import Prompt

T = TypeVar("T")
TEXTS = ("online", "zeroth_order", "diffusion")
"""The loops of sources whose prompts may be any texts, so of pictures too."""


class SourceConfig(Config):
    """The `source:` section; `kind` names the file in rl/sources."""

    kind: str


class Source(ABC):
    """Where prompts come from. Subclasses bind themselves to SOURCE in `rl/sources/KIND.py`.

    `Config` is its section. seed: the run's, which fixes the order of training. near: the config file,
    or its folder, beside which relative paths are looked up first. `trainers`: the loops that it feeds.
    """

    Config: ClassVar[type[SourceConfig]]
    trainers: ClassVar[tuple[str, ...]] = ("online", "zeroth_order")

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        self.config, self.seed, self.near = config, seed, near

    @abstractmethod
    def batch(self, n: int) -> list[Prompt]:
        """The next n training prompts."""

    @abstractmethod
    def evaluation(self) -> dict[str, list[Prompt]]:
        """The prompts to measure on: split -> prompts; "train" and, where there is one, "held_out"."""

    def completion(self, answer: str) -> str:
        """A given answer as it follows the prompt."""
        return answer

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What a resumed source must know; plain JSON."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state_dict. Raises CheckpointError if it is of other data."""


class ListSource(Source):
    """A source over prompts that are all there at the start, walked in a new order every epoch.

    Subclasses give `read() -> (training prompts, held-out prompts)` and may bound `evaluated`, the
    most prompts of a split that are measured (a fixed sample, the same in every run).
    """

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.train, self.held_out = self.read()
        if not self.train:
            raise DataError("there is no training prompt", place=f"source.kind={config.kind}")
        self.cursor = Cursor(len(self.train), seed)

    @abstractmethod
    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """Training and held-out prompts, the same at every call."""

    @property
    def evaluated(self) -> int:
        """The most prompts of a split that an evaluation measures."""
        return 200

    def batch(self, n: int) -> list[Prompt]:
        """The next n training prompts; every prompt once an epoch."""
        return [self.train[i] for i in self.cursor.take(n)]

    def evaluation(self) -> dict[str, list[Prompt]]:
        """ "train" and, unless it is empty, "held_out"; at most `evaluated` prompts of each."""
        splits = {"train": self.train, "held_out": self.held_out}
        return {name: fixed_sample(prompts, self.evaluated) for name, prompts in splits.items() if prompts}

    def state_dict(self) -> dict[str, Any]:
        """The cursor's seed, epoch and position."""
        return self.cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken."""
        self.cursor.load_state_dict(state)


def fixed_sample(items: Sequence[T], n: int) -> list[T]:
    """n of the items, in their order; the same ones at every call."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in sorted(random.Random("evaluation").sample(range(len(items)), n))]


def split_off(items: Sequence[T], n: int, seed: int | str) -> tuple[list[T], list[T]]:
    """(the others, n of the items) in their order; which ones depends on the seed only."""
    chosen = set(random.Random(f"held_out/{seed}").sample(range(len(items)), n))
    return [x for i, x in enumerate(items) if i not in chosen], [x for i, x in enumerate(items) if i in chosen]


def beside(name: str, near: Path | None) -> list[Path]:
    """Where a path may be: beside the config file, if there is one, then from the working folder."""
    folders = [near if near.is_dir() else near.parent] if near else []
    return [folder / name for folder in [*folders, Path()]]


def require_columns(row: Mapping[str, Any], needed: Sequence[str], place: str) -> None:
    """Raise DataError, naming the columns that are there, unless the row has all that are needed."""
    for name in needed:
        if name not in row:
            raise DataError(
                f"no column '{name}'.{did_you_mean(name, row)}",
                place=place,
                allowed=f"the columns there: {', '.join(row)}" if row else "the row is empty",
                next_step="name the right column in the source section, or add it to the data",
            )


def require_answers(source: Source, place: str) -> None:
    """Raise DataError unless every prompt that the source evaluates on has an answer, a text in its column."""
    for row in (row for rows in source.evaluation().values() for row in rows):
        require_columns(row.columns, ["answer"], place)
        if not isinstance(row.columns["answer"], str) or not row.columns["answer"]:
            raise DataError(
                f"the answer of '{row.id}' is {row.columns['answer']!r:.80}", place=place, allowed="a text, not empty"
            )


def checked_prompt(value: Any, place: str) -> str | list[dict[str, Any]]:
    """The value as a prompt: text, or chat messages with a role and a content. Raises DataError."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(_is_message(message) for message in value):
        return value
    raise DataError(
        f"the prompt is {value!r:.80}",
        place=place,
        allowed='a text that is not empty, or chat messages [{"role": ..., "content": ...}, ...]',
    )


def as_chat(text: str | list[dict[str, Any]], system: str | None) -> list[dict[str, Any]]:
    """Text as a user's chat message, behind a system message if there is one; a chat as it is."""
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else list(text)
    return [{"role": "system", "content": system}, *messages] if system else messages


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message
