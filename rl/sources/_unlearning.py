"""Sources of given answers: a set to forget, a set to retain, and further sets that only measure."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from engine.errors import CheckpointError, DataError
from rl.sources._cursor import Cursor
from rl.sources.base import Source, SourceConfig, as_chat, fixed_sample, require_columns
from rl.types import Prompt

REFUSALS = ("I don't know.", "I'm not sure about that.", "That is something that I have no information about.")
COLUMNS = ("question", "answer", "paraphrased_answer", "perturbed_answer")
"""TOFU's. The last two are for measuring: a text that says the same, and a list of texts that say something wrong."""
_SHOWN = 5


class UnlearningConfig(SourceConfig):
    """How rows become prompts and answers, and what is measured.

    `template`: the prompt, with {question} in it; the answer follows behind a space. `chat`: give the question as a
    user's chat message instead. `refusals`: answers that know nothing, which rows to forget take in turn. `evaluated`:
    the most rows of a set that an evaluation measures. `retain_model`: a model that never saw the set to forget, by
    which the forget quality is measured; a name or a folder.
    """

    template: str = "Question: {question}\nAnswer:"
    chat: bool = False
    refusals: tuple[str, ...] = Field(default=REFUSALS, min_length=1)
    evaluated: int = Field(default=100, ge=1)
    retain_model: str | None = None


@dataclass
class Sets:
    """Rows with TOFU's columns, and where each stands.

    `holdout`: name -> rows of general knowledge that are never trained on; the model utility counts them.
    `measured_retain`: rows that are measured as "retain" in place of those that are trained on, if there are any.
    """

    forget: list[Prompt]
    retain: list[Prompt]
    holdout: dict[str, list[Prompt]] = field(default_factory=dict)
    measured_retain: list[Prompt] = field(default_factory=list)

    @property
    def measured(self) -> dict[str, list[Prompt]]:
        """name -> the rows that say how well a set is known, of the sets that have any."""
        sets = {"forget": self.forget, "retain": self.measured_retain or self.retain, **self.holdout}
        return {name: rows for name, rows in sets.items() if rows}

    @property
    def digest(self) -> str:
        """A fingerprint of all that is trained on."""
        texts = [(row.prompt, row.columns["answer"]) for row in (*self.forget, *self.retain)]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


class UnlearningSource(Source):
    """A source for the offline trainer. Subclasses give `read() -> Sets`."""

    Config: ClassVar[type[SourceConfig]] = UnlearningConfig
    trainers = ("offline",)

    def __init__(self, config: Any, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.sets = self.read()
        if not self.sets.forget:
            raise DataError("there is no row to forget", place=f"source.kind={config.kind}")
        refuse_overlap(self.sets)
        refusals = self.config.refusals
        self._refusals = {row.id: refusals[i % len(refusals)] for i, row in enumerate(self.sets.forget)}
        self.parts = {"forget": self.sets.forget, "retain": self.sets.retain}
        self.parts["all"] = [*self.sets.forget, *self.sets.retain]
        self.cursors = {name: Cursor(len(rows), f"{seed}/{name}") for name, rows in self.parts.items() if rows}

    @abstractmethod
    def read(self) -> Sets:
        """The rows, the same at every call."""

    def rows(self, part: str, n: int) -> list[Prompt]:
        """The next n rows of a part that has some, in an order that is new every epoch."""
        return [self.parts[part][i] for i in self.cursors[part].take(n)]

    def batch(self, n: int) -> list[Prompt]:
        """The next n rows to forget."""
        return self.rows("forget", n)

    def evaluation(self) -> dict[str, list[Prompt]]:
        """ "forget", "retain" and the further sets, as far as they have rows; at most `evaluated` of each."""
        return {name: fixed_sample(rows, self.config.evaluated) for name, rows in self.sets.measured.items()}

    def completion(self, answer: str) -> str:
        """The answer as it follows the prompt."""
        return answer if self.config.chat else f" {answer}"

    def state_dict(self) -> dict[str, Any]:
        """Each part's cursor, and a fingerprint of the rows, whose log-probs a checkpoint may hold."""
        return {"digest": self.sets.digest, **{name: cursor.state_dict() for name, cursor in self.cursors.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken. Raises CheckpointError if the rows are others now."""
        if state["digest"] != self.sets.digest:
            raise CheckpointError(
                "the rows to forget or to retain are not those that the checkpoint was made with",
                next_step="resume with the same data, or start a new run",
            )
        for name, cursor in self.cursors.items():
            cursor.load_state_dict(state[name])

    def prompt(self, row: Mapping[str, Any], place: str, name: str) -> Prompt:
        """The row as a prompt with TOFU's columns. Raises DataError for what it lacks."""
        require_columns(row, ["question", "answer"], place)
        columns = {column: row[column] for column in COLUMNS if column in row}
        wrong = columns.get("perturbed_answer", [])
        if not isinstance(wrong, list):
            raise DataError(f"perturbed_answer is {wrong!r:.80}", place=place, allowed="a list of wrong answers")
        texts = {**columns, **{f"perturbed_answer {i + 1}": text for i, text in enumerate(wrong)}}
        for column, value in texts.items():
            if column != "perturbed_answer" and not (isinstance(value, str) and value.strip()):
                raise DataError(f"{column} holds {value!r:.80}", place=place, allowed="a text that is not empty")
        question = columns["question"]
        text = as_chat(question, None) if self.config.chat else self.config.template.replace("{question}", question)
        return Prompt(name, text, {**columns, "place": place})

    def refusal(self, row: Prompt) -> str:
        """The answer that knows nothing, of a row to forget."""
        return self._refusals[row.id]


def refuse_overlap(sets: Sets) -> None:
    """Raise DataError, listing them, if questions to forget are among those to retain or the further sets."""
    to_forget = {_same(row): row for row in sets.forget}
    others = {"retain": [*sets.retain, *sets.measured_retain], **sets.holdout}
    for name, rows in others.items():
        both = [(to_forget[_same(row)], row) for row in rows if _same(row) in to_forget]
        if both:
            pairs = [(a.columns["place"], b.columns["place"], _question(a)) for a, b in both[:_SHOWN]]
            shown = "; ".join(f"{first} and {second}: {question:.60}" for first, second, question in pairs)
            more = f"; and {len(both) - _SHOWN} more" if len(both) > _SHOWN else ""
            raise DataError(
                f"the set to forget and '{name}' have {len(both)} of their questions in common: {shown}{more}",
                place="source",
                next_step="take them out of one of the sets: nothing can be forgotten and kept",
            )


def _question(row: Prompt) -> str:
    return str(row.columns["question"])


def _same(row: Prompt) -> str:
    """What two rows have in common that ask the same."""
    return " ".join(_question(row).split()).casefold()
