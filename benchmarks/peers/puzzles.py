"""BBH-like puzzles whose solver does what its instruction says, and nothing that it does not say.

Four kinds, after BIG-Bench Hard (arXiv 2210.09261): word sorting, boolean expressions, date understanding, tracking
shuffled objects. The solver is a program: each rule that the instruction states in its words (`RULES`) changes
how it works. Nine rules help, four harm, four do nothing; it follows the first twelve that it finds, so that an
instruction cannot simply hold everything. An answer is right or wrong; of a wrong one the feedback says
what was expected, and what was done wrongly.
"""

from __future__ import annotations

import datetime
import itertools
import random
import re
from collections.abc import Callable
from typing import Any

from peers.task import Found, Spec, Task, Values, Wrap

HEAD = "You answer puzzles."
MOST_RULES = 12

RULES: dict[str, tuple[str, str]] = {
    "case": ("Ignore upper and lower case when you order words.", "capital letters decided the order of the words"),
    "once": ("Write each word only once.", "a word stands there more than once"),
    "comma": ("Separate words with commas.", "the words are not separated by commas"),
    "not": ("Evaluate not before and.", "not was applied to more than its neighbour"),
    "and": ("Evaluate and before or.", "or was evaluated before and"),
    "iso": ("Write dates as year-month-day.", "the date is not written as year-month-day"),
    "leap": ("Remember that leap years have a 29 February.", "29 February was left out"),
    "swaps": ("Apply all swaps one after the other.", "only the first swap was applied"),
    "name": ("Answer with the name alone.", "more than the name was answered"),
    "length": ("Order words by their length.", "the words were ordered by their length"),
    "right": ("Read expressions from right to left.", "the expression was read from right to left"),
    "first": ("Move every date to the first of the month.", "the date was moved to the first of the month"),
    "shout": ("Write all answers in capital letters.", "the answer is in capital letters"),
    "steps": ("Think step by step.", ""),
    "polite": ("Be polite and precise.", ""),
    "check": ("Check the answer twice.", ""),
    "short": ("Do not explain.", ""),
}
"""Name: the sentence, and what is said where it is missing or (of the four that harm) where it is followed."""

WORDS = ("apple", "Berry", "cherry", "Date", "elder", "Fig", "grape", "Hazel", "iris", "Juniper", "kale", "Lemon")
USEFUL = ("case", "once", "comma", "not", "and", "iso", "leap", "swaps", "name")
HARMFUL = ("length", "right", "first", "shout")
OF_KIND = {
    "words": ("case", "once", "comma", "length", "shout"),
    "logic": ("not", "and", "right", "shout"),
    "date": ("iso", "leap", "first"),
    "track": ("swaps", "name", "shout"),
}
SENTENCES = tuple(sentence for sentence, _ in RULES.values())
MARKS = {
    "case": r"ignor\w* .{0,20}case",
    "once": r"only once",
    "comma": r"\bcommas?\b",
    "not": r"not before and",
    "and": r"and before or",
    "iso": r"year-month-day",
    "leap": r"29 february",
    "swaps": r"all swaps",
    "name": r"name alone",
    "length": r"by (?:their )?length",
    "right": r"right to left",
    "first": r"first of the month",
    "shout": r"in capital letters",
    "steps": r"step by step",
    "polite": r"\bpolite",
    "check": r"answer twice",
    "short": r"not explain",
}


def rules_of(instruction: str) -> set[str]:
    """The rules that an instruction states, the first MOST_RULES of them."""
    low = instruction.lower()
    places = {name: match.start() for name, mark in MARKS.items() if (match := re.search(mark, low))}
    return set(sorted(places, key=places.__getitem__)[:MOST_RULES])


def solve(instruction: str, example: dict[str, Any]) -> str:
    """Answers a puzzle by the rules that the instruction states."""
    rules = rules_of(instruction)
    return answered(rules, example)


def answered(rules: set[str], example: dict[str, Any]) -> str:
    """What a solver with these rules answers."""
    answer = SOLVERS[example["kind"]](rules, example["given"])
    return answer.upper() if "shout" in rules else answer


def words(rules: set[str], given: Any) -> str:
    chosen = list(dict.fromkeys(given)) if "once" in rules else list(given)
    chosen.sort(key=str.lower if "case" in rules else str)
    if "length" in rules:
        chosen.sort(key=len)
    return (", " if "comma" in rules else " ").join(chosen)


def logic(rules: set[str], given: Any) -> str:
    """The value of tokens such as: not True and False or True."""
    tokens = [token == "True" if token in ("True", "False") else token for token in given]
    if "right" in rules:
        return str(_from_the_right(_negated(tokens)))
    elif "not" in rules:
        tokens = _negated(tokens)
    elif "not" in tokens:
        at = tokens.index("not")
        rest = [not logic_value(rules, [t for t in tokens[at:] if t != "not"])]
        tokens = tokens[:at] + rest
    return str(logic_value(rules, tokens))


def logic_value(rules: set[str], tokens: list[Any]) -> bool:
    """Tokens without `not`: values with `and` and `or` between them."""
    loose = "or" if "and" in rules else "and"
    parts: list[list[bool]] = [[]]
    for token in tokens:
        if token == loose:
            parts.append([])
        elif isinstance(token, bool):
            parts[-1].append(token)
    return any(map(all, parts)) if loose == "or" else all(map(any, parts))


def _from_the_right(tokens: list[Any]) -> bool:
    """The value without precedence: a and (b or (c and ...))."""
    value = bool(tokens[-1])
    for word, before in zip(tokens[-2::-2], tokens[-3::-2], strict=True):
        value = before and value if word == "and" else before or value
    return value


def _negated(tokens: list[Any]) -> list[Any]:
    found: list[Any] = []
    for token in tokens:
        if found and found[-1] == "not":
            found[-1] = not token
        else:
            found.append(token)
    return found


def date(rules: set[str], given: Any) -> str:
    day = datetime.date(*given["from"]) + datetime.timedelta(days=given["days"])
    leap = datetime.date(2024, 2, 29)
    if "leap" not in rules and datetime.date(*given["from"]) < leap <= day:
        day += datetime.timedelta(days=1)
    if "first" in rules:
        day = day.replace(day=1)
    return day.isoformat() if "iso" in rules else day.strftime("%m/%d/%Y")


def track(rules: set[str], given: Any) -> str:
    held = list(given["held"])
    for a, b in given["swaps"] if "swaps" in rules else given["swaps"][:1]:
        held[a], held[b] = held[b], held[a]
    return held[given["asked"]] if "name" in rules else f"It is {held[given['asked']]}."


SOLVERS: dict[str, Callable[[set[str], Any], str]] = {"words": words, "logic": logic, "date": date, "track": track}


def _faults(example: dict[str, Any], output: str) -> tuple[str, ...]:
    """The fewest rules that, left out or followed where they should not be, give this output."""
    rules = OF_KIND[example["kind"]]
    sets = (chosen for n in range(1, len(rules) + 1) for chosen in itertools.combinations(rules, n))
    return next((chosen for chosen in sets if answered(set(USEFUL) ^ set(chosen), example) == output), ())


def drawn(rng: random.Random, kind: str) -> dict[str, Any]:
    """A random puzzle of a kind."""
    if kind == "words":
        given: Any = rng.sample(WORDS, 4)
        given += rng.sample(given, rng.randint(0, 1))
    elif kind == "logic":
        given = []
        for _ in range(3):
            given += [
                *(["not"] if rng.random() < 0.4 else []),
                rng.choice(("True", "False")),
                rng.choice(("and", "or")),
            ]
        given = given[:-1]
    elif kind == "date":
        given = {"from": (2024, 2, rng.randint(10, 29)), "days": rng.randint(1, 25)}
    else:
        held = rng.sample(["Ann", "Bob", "Cleo", "Dan"], 3)
        swaps = [tuple(rng.sample(range(3), 2)) for _ in range(rng.randint(1, 3))]
        given = {"held": held, "swaps": swaps, "asked": rng.randrange(3)}
    return {"kind": kind, "given": given}


class Puzzles(Task):
    """One instruction for all four kinds of puzzle."""

    name = "puzzles"
    objective = "Improve the instruction of a puzzle solver, so that its answers are right."

    def __init__(self, seed: int, train: int = 20, held_out: int = 60) -> None:
        rng = random.Random(f"puzzles/{seed}")
        self.specs = [Spec("instruction", "text", HEAD)]
        self.train = [drawn(rng, list(SOLVERS)[i % 4]) for i in range(train)]
        self.held_out = [drawn(rng, list(SOLVERS)[i % 4]) for i in range(held_out)]

    def program(self, wrap: Wrap) -> Callable[[Values, Any], Any]:
        solver = wrap(solve)
        return lambda values, example: solver(values["instruction"], example)

    def judge(self, example: Any, output: Any) -> tuple[float, str]:
        right = answered(set(USEFUL), example)
        if output == right:
            return 1.0, f"right: {right}"
        told = "; ".join(RULES[rule][1] for rule in _faults(example, str(output)))
        return 0.0, f"wrong: expected {right}, got {output}; {told}"

    def found(self, text: str) -> list[Found]:
        spans = re.finditer(re.escape(HEAD) + r"[^\n\"`<>\]\\]*", text)
        return [(*span.span(), {"instruction": _of_sentences(self._stated(span[0]))}) for span in spans]

    def improved(self, values: Values, text: str, skill: float, rng: random.Random) -> Values | None:
        stated = self._stated(values["instruction"])
        told = [RULES[name][0] for name, (_, fault) in RULES.items() if fault and fault in text]
        fixed = list(stated)
        for name, (sentence, _) in RULES.items():
            if sentence in told and rng.random() < skill:
                if name in HARMFUL and sentence in fixed:
                    fixed.remove(sentence)
                elif name in USEFUL and sentence not in fixed:
                    fixed.append(sentence)
        return {"instruction": _of_sentences(fixed)} if fixed != stated else None

    def varied(self, values: Values, rng: random.Random) -> Values:
        stated = self._stated(values["instruction"])
        if stated and rng.random() < 0.3:
            stated.remove(rng.choice(stated))
        absent = [s for s in SENTENCES if s not in stated]
        if absent and rng.random() < 0.8:
            stated.insert(rng.randint(0, len(stated)), rng.choice(absent))
        return {"instruction": _of_sentences(stated)}

    def crossed(self, one: Values, other: Values, rng: random.Random) -> Values:
        a, b = self._stated(one["instruction"]), self._stated(other["instruction"])
        return {"instruction": _of_sentences([*a, *(s for s in b if s not in a and rng.random() < 0.5)])}

    def _stated(self, text: str) -> list[str]:
        return sorted((s for s in SENTENCES if s in text), key=text.index)


def _of_sentences(sentences: list[str]) -> str:
    return " ".join([HEAD, *sentences])
