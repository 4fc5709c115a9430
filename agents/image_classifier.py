"""Tell which class a picture belongs to by a question to a model that sees pictures.

name_class(Media("rex.png"), ["cat", "dog"]) -> "dog"

The question is what can be improved, as GLOV does (arXiv 2410.06154) for models that answer in words. Departures: the
names of the classes always stand below the question, so that no proposal loses them; and a class is found in the answer
by its words, where the paper takes the one whose name a sentence encoder puts nearest to the answer.
"""

from __future__ import annotations

import functools
import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import Feedback, Media, trace
from engine.errors import InputError
from engine.llm import LLM, resolve
from engine.llm.parsing import Unreadable, without_thinking
from engine.media import content

class_question = trace.param(
    "What is this a picture of?",
    name="class_question",
    description="a question to a model that sees a picture, after which it names the class of the picture",
)
default_llm = functools.cache(resolve)
_FRAME = "\n\nAnswer with one of these names and with nothing else:\n"
_GAP = re.compile(r"[\s_\u2010-\u2015-]+")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@trace.node
def look(question: str, picture: Media, classes: Sequence[str], llm: LLM) -> str:
    """The model's whole answer to picture and question."""
    names = _FRAME + "\n".join(f"- {name}" for name in classes)
    message = {"role": "user", "content": content(picture, question, names)}
    return llm.complete([message], temperature=0).text


@trace.node
def class_in(answer: str, classes: Sequence[str]) -> str:
    """The one class whose name stands in the answer, in whole words; "" for none and for several.

    Case, hyphens, underscores and forms of Unicode do not matter, nor what is in a <think> block. Of names in each
    other the longer one counts: "sea lion" is no "lion". A "not" before a name is not understood.
    """
    known = spellings(classes)
    try:
        text = folded(without_thinking(answer))
    except Unreadable:
        return ""
    longest_first = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    found = set(re.findall(rf"(?<!\w)(?:{longest_first})(?!\w)", text))
    return known[found.pop()] if len(found) == 1 else ""


def name_class(picture: Media, classes: Sequence[str], llm: LLM | None = None) -> str:
    """The class of a picture, "" where the answer names none or several.

    llm: one that sees pictures; None takes the one that the environment names. Raises InputError for classes that
    cannot be told apart by their names.
    """
    spellings(classes)
    return class_in(look(class_question, picture, classes, llm or default_llm()), classes)


def score(example: Mapping[str, Any], output: str) -> Feedback:
    """1 if the output is example["class"], else 0. The model's own words are not repeated: they are `look`'s value."""
    said = f"the answer names {output!r}" if output else "the answer names no class or several, where one is wanted"
    return Feedback(float(output == example["class"]), f"the picture shows {example['class']!r}; {said}")


def split(folder: Path, shots: int) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """(file, class) of `shots` pictures a class to search on, and of the held-out ones; a folder a class."""
    search, held_out = [], []
    for kind in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = sorted(p for p in kind.iterdir() if p.suffix.lower() in _SUFFIXES)
        random.Random(0).shuffle(files)
        search += [(file, kind.name) for file in files[:shots]]
        held_out += [(file, kind.name) for file in files[shots:]]
    return search, held_out


def spellings(classes: Sequence[str]) -> dict[str, str]:
    """Each class by its name as it is compared. Raises InputError for a blank name, two equal ones, or none at all."""
    known = {folded(name): name for name in classes}
    if not known or "" in known or len(known) < len(classes):
        raise InputError(
            f"the classes are {list(classes)!r:.200}", allowed="names that differ in more than case and hyphens"
        )
    return known


def folded(text: str) -> str:
    """The text without case, with one form of each character and single spaces for gaps, hyphens and underscores."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _GAP.sub(" ", plain).strip()
