"""Outputs judged beside one another: what a ranker is asked of them, and what its answers say of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.feedback import Feedback
from engine.jsonfiles import json_text
from engine.optimizers.base import Evaluation
from engine.ranking import Ranker, Ranking, RecordedRanker
from engine.ranking.ranking import Id

ASKED = "Which output is the better one?"
EVEN = 0.5
SLICE_S = 1.0
"""Seconds between two looks at whether the wait for answers shall end."""

UNJUDGED = Feedback(text="not yet compared with other outputs")
"""What is known of an output before a ranker has seen it beside others."""


@dataclass(frozen=True)
class Answer:
    """What was said of the outputs on one example. shown: the place among those compared -> the output."""

    example: int
    question: str
    shown: Mapping[Id, str]
    ranking: Ranking
    human_seconds: float = 0.0

    @property
    def key(self) -> str:
        """Equal for equal questions."""
        return _key(self.question, self.shown)

    def to_json(self) -> dict[str, Any]:
        return {
            "example": self.example,
            "question": self.question,
            "outputs": {str(side): output for side, output in self.shown.items()},
            "ranking": self.ranking.to_json(),
        }


class Comparison:
    """Has a ranker compare what several sets of values give on the same examples.

    ranker: who is asked. path: a file of JSON lines that keeps the answers (see RecordedRanker): what it holds is not
    asked again. texts: the examples as text.
    """

    def __init__(self, ranker: Ranker, path: Path, texts: Sequence[str]) -> None:
        self._ranker, self._texts = RecordedRanker(path, ranker), texts
        self.seconds_each = self._ranker.seconds_each

    def questions(self, sides: Sequence[Evaluation]) -> list[str]:
        """The keys of the questions that comparing these evaluations asks."""
        shown = [_outputs(sides, place) for place in range(len(sides[0].examples))]
        pairs = zip(sides[0].examples, shown, strict=True)
        return [_key(_question(self._texts[i]), outputs) for i, outputs in pairs if len(set(outputs.values())) > 1]

    def ranked(self, sides: Sequence[Evaluation], check: Callable[[], None]) -> tuple[list[Evaluation], list[Answer]]:
        """The evaluations, all of the same examples, with the ranker's judgement as feedback; and its answers.

        Each example is one question, of the different outputs of the runs that did not fail; equal outputs are a tie.
        Where all are equal nothing is asked and each scores 1/2. All questions are asked before one is waited for.
        An output's score is its win rate (`win_rates`), and the ranker's note its text; where the ranker cannot judge
        there is no score. A failed run keeps its error.

        check: called about once a second of the wait; what it raises ends it, and what was answered so far is kept.
        Raises InputError where the ranker's answer names other candidates than it was shown.
        """
        shown = [_outputs(sides, place) for place in range(len(sides[0].examples))]
        answers = self._answers(dict(zip(sides[0].examples, shown, strict=True)), check)
        by_example = {answer.example: answer for answer in answers}
        judged = [_judged(outputs, by_example.get(i)) for i, outputs in zip(sides[0].examples, shown, strict=True)]
        return [_with_feedback(side, number, judged) for number, side in enumerate(sides)], answers

    def _answers(self, shown: Mapping[int, Mapping[Id, str]], check: Callable[[], None]) -> list[Answer]:
        """The answers on the examples whose outputs differ."""
        asked = [i for i, outputs in shown.items() if len(set(outputs.values())) > 1]
        questions = {i: _question(self._texts[i]) for i in asked}
        tickets = [self._ranker.ask(shown[i], question=questions[i]) for i in asked]
        while True:
            found = self._ranker.gather(tickets, deadline_s=SLICE_S)
            rankings = [ranking for ranking in found if ranking is not None]
            if len(rankings) == len(asked):
                took = map(self._ranker.human_seconds, tickets)
                answers = zip(asked, rankings, took, strict=True)
                return [Answer(i, questions[i], shown[i], ranking, seconds) for i, ranking, seconds in answers]
            check()


def unjudged(example: Any, output: Any) -> Feedback:
    """The feedback function of a program whose outputs are compared later."""
    return UNJUDGED


def win_rates(ranking: Ranking, ids: Sequence[Id]) -> list[float]:
    """The mean over the other candidates of: 1 for better than it, 1/2 for a tie, 0 for worse; 1/2 if alone."""
    rows = ranking.preferences(ids)
    return [(sum(row) - EVEN) / (len(row) - 1) if len(row) > 1 else EVEN for row in rows]


def comparable(new: Evaluation, held: Evaluation) -> tuple[list[float | None], list[float | None]]:
    """Both scores on each example for a rule of acceptance, which takes None for a failed run.

    Where one run failed, the other has a score, whatever the ranker said. Where neither failed and the ranker could
    not judge, neither has one.
    """
    pairs = [
        (None if failed else EVEN, None if held_failed else EVEN) if failed or held_failed else (a, b)
        for a, b, failed, held_failed in zip(new.scores, held.scores, new.failed, held.failed, strict=True)
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def joined(one: Evaluation, other: Evaluation) -> Evaluation:
    """One evaluation of the examples of both, which are different ones, in their order."""
    rows = sorted(
        (row for e in (one, other) for row in zip(e.examples, e.feedback, e.outputs, e.failed, strict=True)),
        key=lambda row: row[0],
    )
    examples, feedback, outputs, failed = zip(*rows, strict=True)
    return replace(one, examples=examples, feedback=feedback, outputs=outputs, failed=failed)


def _question(example: str) -> str:
    return f"{example}\n\n{ASKED}" if example else ASKED


def _key(question: str, shown: Mapping[Id, str]) -> str:
    return hashlib.sha256(json_text([question, sorted(set(shown.values()))]).encode()).hexdigest()[:20]


def _outputs(sides: Sequence[Evaluation], place: int) -> dict[Id, str]:
    """The outputs on one example, by side; without those of failed runs."""
    return {number: side.outputs[place] for number, side in enumerate(sides) if not side.failed[place]}


def _judged(shown: Mapping[Id, str], answer: Answer | None) -> dict[Id, Feedback]:
    """The feedback of each side that was shown."""
    if answer is None:
        return dict.fromkeys(shown, Feedback(EVEN))
    ranking = answer.ranking
    if ranking.cannot_judge:
        return dict.fromkeys(shown, Feedback(text=ranking.note or "the ranker cannot judge"))
    remarks = [ranking.note, "none of the outputs shown would do" if ranking.all_bad else ""]
    text = "; ".join(remark for remark in remarks if remark)
    ids = list(shown)
    return {side: Feedback(rate, text) for side, rate in zip(ids, win_rates(ranking, ids), strict=True)}


def _with_feedback(side: Evaluation, number: int, judged: Sequence[Mapping[Id, Feedback]]) -> Evaluation:
    pairs = zip(judged, side.feedback, strict=True)
    return replace(side, feedback=tuple(said.get(number, own) for said, own in pairs))
