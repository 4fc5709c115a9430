"""The search where a ranker compares outputs, and no score stands by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.acceptance import Verdict, better
from engine.budget import LimitReached
from engine.comparison import EVEN, UNJUDGED, Answer, Comparison, comparable, joined
from engine.errors import Stopped
from engine.feedback import Feedback
from engine.optimizers._compared import with_strengths
from engine.optimizers.base import Candidate, Evaluation, Trajectory
from engine.search import Parts, Search, highest


class RankedSearch(Search):
    """Judges the candidates of a step together with the held values, by one question an example.

    A score is a win rate among those compared in the same question, so it is compared with the held values' score
    of the same questions alone, never with another step's.
    """

    is_ranked = True

    def __init__(
        self, parts: Parts, initial: Mapping[str, Any], history: Sequence[Evaluation], comparison: Comparison
    ) -> None:
        super().__init__(parts, initial, history)
        self._comparison = comparison
        self._held: Evaluation | None = None  # the held values in this step's questions
        self._said: dict[int, Feedback] = {}  # what was last said of the held values, by example
        self._questions = 0
        self._charged: set[str] = set()  # questions whose human time is in the account

    def load(self, saved: Mapping[str, Any]) -> None:
        super().load(saved)
        self._said = {int(example): Feedback(**said) for example, said in saved["said"].items()}
        self._charged = set(saved["charged"])

    def state(self) -> dict[str, Any]:
        said = {str(i): said.to_json() for i, said in self._said.items()}
        return {**super().state(), "said": said, "charged": sorted(self._charged)}

    def ends(self, examples: Sequence[int] | None = None, *, is_asked: bool = True) -> tuple[Evaluation, Evaluation]:
        """The starting values and the held ones, whose score is their win rate against the starting values.

        The starting values score 1/2, as they would against themselves. Where they failed there is nothing to win
        against, and where nothing is left of the people's time nobody is asked; so there is no score. Raises Stopped.
        """
        start, best = super().ends(examples)
        is_asked = is_asked or self.initial == self.current  # equal outputs take no question
        if is_asked:
            try:
                (_, best), _ = self._judged([start, best], self._check_stop)
            except LimitReached:
                is_asked = False
        runs = list(zip(start.failed, best.failed, strict=True))
        return (
            _told(start, Feedback(EVEN), [not before for before, _ in runs]),
            _told(best, UNJUDGED, [not after and (before or not is_asked) for before, after in runs]),
        )

    def _evaluated(self, step: int, fresh: Sequence[Candidate], batch: Sequence[int]) -> list[Evaluation]:
        self._held, self._questions = None, 0
        evaluations = super()._evaluated(step, fresh, batch)
        if not evaluations:
            return []
        held, *found = self._ranked([self.evaluation_of(self.current, batch), *evaluations], step)
        self._held = held
        return found

    def _ranked(self, sides: Sequence[Evaluation], step: int) -> list[Evaluation]:
        """The evaluations as the ranker judges them; its answers are recorded."""
        evaluations, answers = self._judged(sides, self._check)
        self._questions += len(answers)
        self.parts.record.save_answers(step, [answer.to_json() for answer in answers])
        return evaluations

    def _judged(self, sides: Sequence[Evaluation], check: Callable[[], None]) -> tuple[list[Evaluation], list[Answer]]:
        """What the ranker says; people's time is reserved before, by what answers took so far, and then set right.

        Raises LimitReached.
        """
        ledger = self.parts.ledger
        new = set(self._comparison.questions(sides)) - self._charged
        spent, known = ledger.spent()["human_minutes"], len(self._charged)
        reserved = len(new) * (spent / known if known else self._comparison.seconds_each / 60)
        if reserved:
            ledger.reserve(human_minutes=reserved)
        took = 0.0
        try:
            evaluations, answers = self._comparison.ranked(sides, check)
            took = math.fsum({a.key: a.human_seconds for a in answers if a.key in new}.values()) / 60
            self._charged |= new
        finally:
            ledger.charge(human_minutes=took - reserved)
        return evaluations, answers

    def _decided(self, evaluations: list[Evaluation]) -> tuple[list[Evaluation], Verdict | None]:
        evaluations, verdict = super()._decided(evaluations)
        said = next((e for e in evaluations if e.accepted), self._held)
        if said is not None:
            self._said |= dict(zip(said.examples, said.feedback, strict=True))
        return evaluations, verdict

    def _compared(self, best: Evaluation) -> tuple[Evaluation, Verdict]:
        """The rule's verdict on all examples; beyond the batch the two alone are compared."""
        parts, held = self.parts, self._held
        assert held is not None
        rest = sorted({*parts.examples} - {*best.examples})
        if rest:
            screened = better(*comparable(best, held))
            if not screened.accepted:
                return best, screened
            parts.evaluator.evaluate([best.candidate.values], rest, parts.ledger)
            sides = [self.evaluation_of(self.current, rest), self.evaluation_of(best.candidate.values, rest)]
            more_held, more_best = self._ranked(sides, best.step)
            best, held = joined(best, more_best), joined(held, more_held)
            self._held = held
        return best, parts.rule(*comparable(best, held))

    def _history_told(self) -> tuple[Evaluation, ...]:
        """As it is for optimizers that read rankings; for the others with scores that hold across steps."""
        history = super()._history_told()
        return history if "ranking" in self.parts.optimizer.needs else tuple(with_strengths(history, is_ranked=True))

    def _scores_of(self, values: Mapping[str, Any], batch: Sequence[int]) -> Sequence[float | None]:
        if values != self.current:
            super()._scores_of(values, batch)  # they may not have been run on all of it
            return [None for _ in batch]
        return [self._said[i].scalar if i in self._said else None for i in batch]

    def _told(self, values: Mapping[str, Any], index: int, trajectory: Trajectory) -> Trajectory:
        if values != self.current:
            return trajectory
        return replace(trajectory, feedback=self._said.get(index, trajectory.feedback))

    def _standing(self, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
        """No score that goes on from step to step: the win rates of this step, and how many questions it took."""
        return {
            "best_score": None,
            "current_score": None,
            "win_rate": highest([e.score for e in evaluations]),
            "held_win_rate": None if self._held is None else self._held.score,
            "questions": self._questions,
        }

    def _check(self) -> None:
        """Raises Stopped where a stop was asked for, LimitReached where the time is spent."""
        self._check_stop()
        self.parts.ledger.reserve()

    def _check_stop(self) -> None:
        if (ending := self.stop_asked()) is not None:
            raise Stopped(ending.reason)


def _told(evaluation: Evaluation, told: Feedback, places: Sequence[bool]) -> Evaluation:
    """The evaluation with this feedback in those places."""
    feedback = (told if place else said for said, place in zip(evaluation.feedback, places, strict=True))
    return replace(evaluation, feedback=tuple(feedback))
