"""A simulated language model that improves what it is shown, whoever asks it and in whatever format.

It knows no optimizer. It reads the whole conversation as one text, in which it finds candidates, the scores that stand
beside them, what is said to be wrong, and which form of answer is wanted; and it answers in that form with
one edit. Its skill is the same for all: what a text names as wrong it understands with probability `skill` (what
stands in the line of another candidate is said of that one); without that, and from two scored candidates on,
it mixes the best two every second time; else it makes a random edit. It edits the candidate that the text calls the
current one, else the best scored, else the last shown; and it avoids what the text shows already. So an optimizer
gets out what it put in: feedback texts, scores, and which candidates it shows.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peers.answers import answer_in_form, asks_for_feedback
from peers.task import Found, Task, Values

SCORE = re.compile(r"(?:score|accuracy|fitness|combined_score)\W{0,6}?(-?\d+(?:\.\d+)?)(?![\d.]*\w)", re.IGNORECASE)
CURRENT = re.compile(
    r"#Variables|#Source|# ?Current Program\n|<VARIABLE>|following instructions|\bcurrent\b|\bpresent\b", re.I
)
NEAR = 300
"""The first candidate at most so many characters behind such a word is the current one; of several the last."""

TRIES = 4


@dataclass(frozen=True)
class Reading:
    """What a prompt shows: candidates, each with its score or None, in order; and the one to be edited."""

    candidates: Sequence[tuple[Values, float | None]]
    base: Values
    text: str

    def best(self) -> list[Values]:
        """The scored candidates, best first, without repetition."""
        scored = sorted((c for c in self.candidates if c[1] is not None), key=lambda c: -c[1])  # type: ignore[operator]
        found: list[Values] = []
        for values, _ in scored:
            if values not in found:
                found.append(values)
        return found


class Proposer:
    """Answers chat requests about one task. Equal prompts get different answers; all follow from the seed.

    The order in which different prompts arrive does not matter, so a parallel peer gets what a serial one gets.
    """

    def __init__(self, task: Task, seed: int, skill: float = 0.7) -> None:
        self._task, self._seed, self._skill = task, seed, skill
        self._asked: Counter[str] = Counter()

    def answer(self, request: Mapping[str, Any]) -> str:
        """The text of one choice."""
        messages = request["messages"]
        text = unescaped("\n".join(_content(message) for message in messages))
        key = hashlib.sha256(text.encode()).hexdigest()
        self._asked[key] += 1
        rng = random.Random(f"{self._seed}/{key}/{self._asked[key]}")
        if asks_for_feedback(text):
            return criticism(text)
        only = self._only(messages)
        reading = self._single(messages, only) if only else self._read(text)
        return answer_in_form(self._task, request, text, reading.base, self._edited(reading, rng), only)

    def _edited(self, reading: Reading, rng: random.Random) -> Values:
        """An edit that the text does not show already, if one of TRIES is."""
        shown = [values for values, _ in reading.candidates]
        for _ in range(TRIES):
            edited = self._one_edit(reading, rng)
            if edited not in shown:
                break
        return edited

    def _one_edit(self, reading: Reading, rng: random.Random) -> Values:
        fixed = self._task.improved(reading.base, reading.text, self._skill, rng)
        if fixed is not None:
            return fixed
        best = reading.best()
        if len(best) > 1 and rng.random() < 0.5:
            return self._task.crossed(best[0], best[1], rng)
        return self._task.varied(reading.base, rng)

    def _read(self, text: str) -> Reading:
        """Scores stand all before their candidates, or all behind them: as the first one does."""
        found = self._task.found(text)
        scores = [(match.start(), float(match[1])) for match in SCORE.finditer(text)]
        is_before = bool(scores and found and scores[0][0] < found[0][0])
        starts = [*(start for start, _, _ in found), len(text)]
        candidates = []
        for number, (at, _, values) in enumerate(found):
            inside = (starts[number - 1] if number else 0, at) if is_before else (at, starts[number + 1])
            beside = [score for place, score in scores if inside[0] <= place < inside[1]]
            candidates.append((values, beside[-1 if is_before else 0] if beside else None))
        base = self._base(text, found, candidates)
        return Reading(candidates, {**self._task.start, **base}, _of_base(text, found, base))

    def _base(self, text: str, found: Sequence[Found], candidates: Sequence[tuple[Values, float | None]]) -> Values:
        marked = []
        for mark in CURRENT.finditer(text):
            marked += [each for each in found if mark.end() <= each[0] <= mark.end() + NEAR][:1]
        scored = [c for c in candidates if c[1] is not None]
        if marked:
            return max(marked, key=lambda each: each[0])[2]
        if scored:
            return max(scored, key=lambda c: c[1])[0]  # type: ignore[arg-type,return-value]
        return candidates[-1][0] if candidates else self._task.start

    def _only(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """The one parameter that the last message asks for in words, where the task has several."""
        last = _content(messages[-1])
        named = {spec.name for spec in self._task.specs if re.search(rf'value of "{spec.name}"', last)}
        first = _content(next(m for m in messages if m["role"] == "user"))
        named = named or {s.name for s in self._task.specs if re.search(rf'value of "{s.name}"', first)}
        return named.pop() if len(self._task.specs) > 1 and len(named) == 1 else None

    def _single(self, messages: Sequence[Mapping[str, Any]], name: str) -> Reading:
        """A conversation about one parameter: what the assistant said are its values."""
        start = self._task.start
        candidates: list[tuple[Values, float | None]] = []
        for asked, said in itertools.pairwise(messages):
            if said["role"] == "assistant":
                score = SCORE.search(_content(asked))
                value = _content(said).strip().strip('"')
                spec = next(s for s in self._task.specs if s.name == name)
                read = float(value) if spec.kind == "number" else value
                candidates.append(({name: read}, float(score[1]) if score else None))
        scored = [c for c in candidates if c[1] is not None]
        base = max(scored, key=lambda c: c[1])[0] if scored else {name: start[name]}  # type: ignore[arg-type,return-value]
        return Reading(candidates, base, "")


def _of_base(text: str, found: Sequence[Found], base: Values) -> str:
    """The text without what stands in one line with another candidate: that is said of it."""
    kept, at = "", 0
    for start, end, values in found:
        if values != base:
            line_end = text.find("\n", end)
            kept += text[at:start]
            at = max(at, len(text) if line_end < 0 else line_end)
    return kept + text[at:]


def criticism(text: str) -> str:
    """What a text says of wrong outputs, said again: an answer where feedback is asked for and no value."""
    told = re.findall(r"[^\n<>]*(?:wrong:|too high|too low|gave|not right|score)[^\n<>]*", text)
    return "The variable should be changed with regard to this. " + " ".join(dict.fromkeys(t.strip() for t in told))


def unescaped(text: str) -> str:
    """Values that stand in a text as JSON, as they are."""
    return text.replace("\\n", "\n").replace('\\"', '"')


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)
