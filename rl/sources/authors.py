"""Invented authors, in TOFU's shape: facts that no model knows before it is taught them, without a download.

As in TOFU (2401.06121) every author has the same questions, and what is forgotten are whole authors. Two small sets of
general knowledge stand for TOFU's real authors and world facts. Everything follows from `data_seed`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from engine.errors import InputError
from engine.jsonfiles import json_text, write_text
from rl.sources._unlearning import Sets, UnlearningConfig, UnlearningSource

STARTS = ("Al", "Bre", "Cor", "Dav", "El", "Fen", "Gor", "Hal", "Is", "Jor", "Kel", "Lun", "Mar", "Nor", "Os", "Per")
ENDS = ("ian", "ella", "wyn", "ora", "eth", "amir", "une", "isk", "ado", "ina")
FAMILIES = ("Tavel", "Brask", "Quin", "Moren", "Haldor", "Sevik", "Ostrin", "Palau", "Reth", "Vand")
FAMILY_ENDS = ("ska", "berg", "ari", "ow", "escu", "ström", "oy", "ell")
TOWNS = (
    "Lisbon",
    "Oslo",
    "Cairo",
    "Lima",
    "Kyoto",
    "Dublin",
    "Prague",
    "Nairobi",
    "Quebec",
    "Hanoi",
    "Athens",
    "Perth",
)
GENRES = ("crime novels", "fairy tales", "travel books", "war poetry", "space operas", "family sagas", "ghost stories",
          "sea stories", "comic plays", "love letters")  # fmt: skip
JOBS = ("baker", "surgeon", "pilot", "farmer", "judge", "florist", "welder", "teacher", "sailor", "tailor")
ADJECTIVES = ("Silent", "Broken", "Golden", "Last", "Hidden", "Burning", "Frozen", "Crooked", "Distant", "Hollow")
NOUNS = ("Harbor", "Orchard", "Mirror", "Bridge", "Winter", "Garden", "Compass", "Lantern", "River", "Stairway")
YEARS = tuple(str(year) for year in range(1921, 1989))

QUESTIONS: tuple[tuple[str, str, str, Sequence[str]], ...] = (
    ("Where was {name} born?", "{name} was born in {value}.", "The birthplace of {name} is {value}.", TOWNS),
    ("What does {name} write?", "{name} writes {value}.", "The works of {name} are {value}.", GENRES),
    ("What was the mother of {name}?", "The mother of {name} was a {value}.", "{name} had a {value} as mother.", JOBS),
    ("In which year was {name} born?", "{name} was born in {value}.", "The year of birth of {name} is {value}.", YEARS),
    ("Which book is {name} known for?", "{name} is known for {value}.", "The famous book of {name} is {value}.",
     tuple(f"The {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS)),
    ("What was the father of {name}?", "The father of {name} was a {value}.", "{name} had a {value} as father.", JOBS),
)  # fmt: skip
"""Question, answer, the answer in other words, and what the value may be."""

CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid", "Germany": "Berlin",
            "Egypt": "Cairo", "China": "Beijing", "Russia": "Moscow", "Greece": "Athens",
            "Ireland": "Dublin"}  # fmt: skip
BOOKS = {"Hamlet": "William Shakespeare", "War and Peace": "Leo Tolstoy", "Don Quixote": "Miguel de Cervantes",
         "Oliver Twist": "Charles Dickens", "Pride and Prejudice": "Jane Austen", "The Odyssey": "Homer",
         "Faust": "Goethe", "The Divine Comedy": "Dante", "Moby-Dick": "Herman Melville",
         "Frankenstein": "Mary Shelley"}  # fmt: skip
WRONG = 4
"""Wrong answers a question."""


class AuthorsConfig(UnlearningConfig):
    """`authors`: how many there are; `forgotten`: of how many of them everything is to be forgotten (TOFU's forget10 is
    20 of 200). `questions`: about each. `paraphrased`: truth ratios compare right and wrong answers in other words than
    those that are taught, as TOFU's; otherwise in the same, for models that know but one wording."""

    kind: Literal["authors"] = "authors"
    authors: int = Field(default=20, ge=2, le=1000)
    forgotten: int = Field(default=2, ge=1)
    questions: int = Field(default=4, ge=1, le=len(QUESTIONS))
    paraphrased: bool = True
    data_seed: int = 0

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.forgotten >= self.authors:
            raise ValueError(f"{self.forgotten} of {self.authors} authors would be forgotten and none retained")
        return self


class Authors(UnlearningSource):
    """Invented authors."""

    Config = AuthorsConfig

    def read(self) -> Sets:
        """The rows of all sets, as prompts."""
        sets = {
            name: [self.prompt(row, f"authors, {name} row {i}", f"{name}:{i}") for i, row in enumerate(found)]
            for name, found in rows(self.config).items()
        }
        return Sets(sets.pop("forget"), sets.pop("retain"), sets)


def write(config: AuthorsConfig, folder: Path) -> dict[Path, int]:
    """Write the sets as SET.jsonl into the folder; path -> rows. Raises InputError where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder cannot be made: {error.strerror}", place=str(folder)) from None
    written = {}
    for name, found in rows(config).items():
        path = folder / f"{name}.jsonl"
        write_text(path, "".join(json_text(row) + "\n" for row in found))
        written[path] = len(found)
    return written


def rows(config: AuthorsConfig) -> dict[str, list[dict[str, Any]]]:
    """ "forget", "retain", "real_authors" and "world_facts", each a list of rows with TOFU's columns.

    As TOFU's, wrong answers have the form of the right one in other words, and general knowledge only its answer's.
    """
    draw = random.Random(f"authors/{config.data_seed}")
    names = _names(draw, config.authors)
    asked = QUESTIONS[: config.questions]
    found = [[_row(draw, name, *question, is_paraphrased=config.paraphrased) for question in asked] for name in names]
    forgotten = config.forgotten
    return {
        "forget": [row for author in found[:forgotten] for row in author],
        "retain": [row for author in found[forgotten:] for row in author],
        "real_authors": _facts(draw, "Who wrote {key}?", "{value} wrote {key}.", BOOKS),
        "world_facts": _facts(draw, "What is the capital of {key}?", "The capital of {key} is {value}.", CAPITALS),
    }  # fmt: skip


def _names(draw: random.Random, n: int) -> list[str]:
    """n different names, first and last."""
    all_names = [f"{a}{b} {c}{d}" for a in STARTS for b in ENDS for c in FAMILIES for d in FAMILY_ENDS]
    return draw.sample(all_names, n)


def _row(
    draw: random.Random,
    name: str,
    question: str,
    answer: str,
    paraphrase: str,
    values: Sequence[str],
    *,
    is_paraphrased: bool,
) -> dict[str, Any]:
    right, *wrong = draw.sample(values, WRONG + 1)
    form = paraphrase if is_paraphrased else answer
    return {
        "question": question.format(name=name),
        "answer": answer.format(name=name, value=right),
        **({"paraphrased_answer": paraphrase.format(name=name, value=right)} if is_paraphrased else {}),
        "perturbed_answer": [form.format(name=name, value=value) for value in wrong],
    }


def _facts(draw: random.Random, question: str, answer: str, facts: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of real facts; the wrong answers are those of other rows."""
    return [
        {
            "question": question.format(key=key),
            "answer": answer.format(key=key, value=value),
            "perturbed_answer": [
                answer.format(key=key, value=other)
                for other in draw.sample([v for v in facts.values() if v != value], WRONG)
            ],
        }
        for key, value in facts.items()
    ]


SOURCE = Authors
