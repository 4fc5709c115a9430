"""The search itself: propose, sieve, evaluate, accept, record - one step after the other."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.acceptance import Rule, Verdict, better, latest
from engine.budget import Ledger, LimitReached
from engine.copies import Copies
from engine.errors import AnswerError, Stopped
from engine.evaluation import Evaluator
from engine.halving import halved
from engine.metering import MeteredLLM
from engine.optimizers.base import Candidate, Evaluation, Optimizer, State, Trajectory, values_key
from engine.params import Param
from engine.program import Outcome, Program, Run
from engine.progress import Terminal, number
from engine.projection import outlook
from engine.record import Record
from engine.sieve import Sieve, Sieved, is_proposable
from engine.signals import Terminated
from engine.trajectories import Trajectories


@dataclass(frozen=True)
class StepReport:
    """What a callback is told after each step: the metrics row, the evaluations, and the values now held."""

    row: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    current: Mapping[str, Any]


Callback = Callable[[StepReport], Any]


@dataclass
class Parts:
    """What a search works with."""

    program: Program
    params: Sequence[Param]
    optimizer: Optimizer
    evaluator: Evaluator
    ledger: Ledger
    record: Record
    terminal: Terminal
    llm: MeteredLLM | None
    rule: Rule
    examples: range
    batch_size: int | None = None
    halving: int | None = None
    seed: int = 0
    objective: str = ""
    copies: Copies | None = None
    callbacks: Sequence[Callback] = ()
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Ending:
    """Why a search ended; `is_stop`: somebody asked for it, and it can go on."""

    reason: str
    is_stop: bool = False


INTERRUPT = Ending("interrupt", is_stop=True)


def interrupted(error: KeyboardInterrupt) -> Ending:
    """By Ctrl-C or by SIGTERM."""
    return Ending("SIGTERM", is_stop=True) if isinstance(error, Terminated) else INTERRUPT


class Search:
    """The state of a search between steps: the values held, and everything evaluated so far.

    history[0] is the evaluation of the starting values on all examples.
    """

    is_ranked = False

    def __init__(self, parts: Parts, initial: Mapping[str, Any], history: Sequence[Evaluation]) -> None:
        self.parts, self.initial, self.history = parts, dict(initial), list(history)
        self.current: dict[str, Any] = dict(initial)
        self.step = 0
        self._refused: list[str] = []
        proposable = [param for param in parts.params if is_proposable(param)]
        self._trajectories = Trajectories(parts.program, parts.evaluator, parts.ledger, proposable)
        self._best_score = highest([e.score for e in history])
        self._sieve = Sieve(parts.params, parts.copies)
        for evaluation in history:
            self._sieve.saw(evaluation.candidate.values)
        self._is_scoreless = all(s is None for s, f in zip(history[0].scores, history[0].failed, strict=True) if not f)

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on after the last finished step of an earlier run."""
        self.step, self.current = saved["step"], dict(saved["current"])
        self._refused = list(saved["refused"])
        self._trajectories.load(saved)
        self.parts.optimizer.load_state_dict(saved["optimizer"])
        self.store()

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {
            "step": self.step,
            "arm": self.parts.optimizer.name,
            "current": self.current,
            "refused": self._refused,
            **self._trajectories.state(),
            "optimizer": self.parts.optimizer.state_dict(),
            "spent": self.parts.ledger.spent(),
            "usage": asdict(self.parts.llm.usage) if self.parts.llm else None,
            "rates": self.parts.llm.rates() if self.parts.llm else None,
        }

    def first_row(self) -> dict[str, Any]:
        """The metrics row of the starting values, step 0."""
        score = self.history[0].score
        return {"step": 0, "best_score": score, "current_score": score, "spent": self.parts.ledger.spent()}

    @property
    def _shows_graphs(self) -> bool:
        return "graph" in self.parts.optimizer.needs

    def take(self, runs: Mapping[int, Run]) -> None:
        """Keep the starting values' runs, by example, for an optimizer that reads graphs."""
        if self._shows_graphs:
            self._trajectories.take(self.initial, runs)

    def store(self) -> None:
        """Set the held values on the parameters."""
        for param in self.parts.params:
            if is_proposable(param) and param.value != self.current[param.name]:
                param.set(self.current[param.name], author="model")

    def run(self) -> Ending:
        """Search until a limit is reached or a stop is asked for."""
        try:
            while (reason := self._reason_to_stop()) is None:
                self._one_step()
            return reason
        except LimitReached as error:
            return Ending(error.limit)
        except Stopped as error:
            return Ending(error.message, is_stop=True)
        except KeyboardInterrupt as error:
            return interrupted(error)

    def score(self) -> float | None:
        """The mean score of the held values on all examples."""
        return self.evaluation_of(self.current).score

    def evaluation_of(self, values: Mapping[str, Any], examples: Sequence[int] | None = None) -> Evaluation:
        """Values that were evaluated already, on examples that they were evaluated on."""
        examples = self.parts.examples if examples is None else examples
        key = values_key(values)
        outcomes = [self.parts.evaluator.known[key, i] for i in examples]
        return as_evaluation(Candidate(values), examples, outcomes, self.step)

    def ends(self, examples: Sequence[int] | None = None, *, is_asked: bool = True) -> tuple[Evaluation, Evaluation]:
        """The starting values and the held ones, as the result tells them.

        examples: by default all; both were run on them. is_asked: whether somebody may be asked to judge them.
        """
        if examples is None:
            # Where nothing has a score the held values may not have been run on all.
            key, known = values_key(self.current), self.parts.evaluator.known
            run = [i for i in self.parts.examples if (key, i) in known]
            return self.history[0], self.evaluation_of(self.current, run)
        return self.evaluation_of(self.initial, examples), self.evaluation_of(self.current, examples)

    def stop_asked(self) -> Ending | None:
        """The ending that somebody asked for, if so."""
        if self.parts.stop.is_set():
            return INTERRUPT
        return Ending("stop file", is_stop=True) if self.parts.record.stop_file.exists() else None

    def _reason_to_stop(self) -> Ending | None:
        if (asked := self.stop_asked()) is not None:
            return asked
        limit = self.parts.ledger.exhausted()
        return None if limit is None else Ending(limit)

    def _one_step(self) -> None:
        parts, step = self.parts, self.step + 1
        before = parts.ledger.spent()
        parts.ledger.reserve(steps=1)
        rng = random.Random(f"{parts.seed}/{step}")
        batch = self._batch(rng)
        # No more than may turn out to be unusable, or evaluated.
        wanted = int(min(parts.optimizer.candidates, parts.ledger.left("evaluations"), parts.ledger.left("invalid")))
        state = self._state(step, batch, rng)
        proposed = self._proposed(state, wanted)
        sieved = self._sieve(proposed, state.current)
        parts.ledger.charge(invalid=len(sieved.invalid) + len(sieved.duplicates))
        order = rng.sample(batch, len(batch)) if parts.halving else batch
        with self._keeping(sieved.fresh, batch):
            evaluations, verdict = self._decided(self._evaluated(step, sieved.fresh, order))
            best = evaluations[place_of_best(evaluations)].candidate.values if evaluations else None
            self._trajectories.settle(best, [state.current, self.current])
        parts.optimizer.observe(evaluations)
        self.step = step
        self.history += evaluations
        self._finish_step(evaluations, sieved, len(proposed), verdict)
        if step == 1 and (
            told := outlook(parts.ledger.budget, parts.optimizer.candidates, before, parts.ledger.spent())
        ):
            parts.terminal.say(told)

    def _keeping(self, fresh: Sequence[Candidate], batch: Sequence[int]) -> AbstractContextManager[None]:
        """Inside, the graphs of the candidates' runs are kept, for an optimizer that reads any."""
        return self._trajectories.keeping([c.values for c in fresh] if self._shows_graphs else [], len(batch))

    def _batch(self, rng: random.Random) -> Sequence[int]:
        size, examples = self.parts.batch_size, self.parts.examples
        return examples if size is None or size >= len(examples) else sorted(rng.sample(examples, size))

    def _state(self, step: int, batch: Sequence[int], rng: random.Random) -> State:
        """What the optimizer sees in this step, from the values on that it works from."""
        parts = self.parts
        if parts.llm is not None:
            parts.llm.begin_step(step)
        state = State(
            params=[p for p in parts.params if is_proposable(p)],
            current=dict(self.current),
            trajectories=(),
            history=self._history_told(),
            llm=parts.llm,
            rng=rng,
            step=step,
            objective=parts.objective,
            initial=dict(self.initial),
            examples=[parts.program.texts[i] for i in batch],
            is_ranked=self.is_ranked,
            notes={"refused": list(self._refused)},
        )
        parent = dict(parts.optimizer.parent(state))
        return replace(state, current=parent, trajectories=self._worst_runs(parent, batch, rng))

    def _history_told(self) -> tuple[Evaluation, ...]:
        return tuple(self.history)

    def _proposed(self, state: State, wanted: int) -> list[Candidate]:
        try:
            return self.parts.optimizer.propose(state, wanted)[:wanted]
        except AnswerError as error:
            return [Candidate({}, fault=error.message)]

    def _evaluated(self, step: int, fresh: Sequence[Candidate], batch: Sequence[int]) -> list[Evaluation]:
        ledger = self.parts.ledger
        found: list[Evaluation] = []
        ledger.reserve(evaluations=len(fresh))
        try:
            if fresh:
                found = self._run(step, fresh, batch)
        finally:
            ledger.charge(evaluations=len(found) - len(fresh))
        return found

    def _run(self, step: int, fresh: Sequence[Candidate], batch: Sequence[int]) -> list[Evaluation]:
        """The candidates on the batch, or as far as halving takes them; a spent budget leaves the last ones out."""
        parts = self.parts
        is_begun = False

        def evaluate(candidates: Sequence[Candidate], examples: Sequence[int]) -> list[Evaluation]:
            nonlocal is_begun
            try:
                found = parts.evaluator.evaluate([c.values for c in candidates], examples, parts.ledger)
            except LimitReached:
                if not is_begun:
                    raise
                return []
            is_begun = True
            return [as_evaluation(c, examples, outcomes, step) for c, outcomes in zip(candidates, found, strict=False)]

        return halved(fresh, batch, parts.halving, evaluate) if parts.halving else evaluate(fresh, batch)

    def _decided(self, evaluations: list[Evaluation]) -> tuple[list[Evaluation], Verdict | None]:
        """The evaluations with the accepted one marked, and what was decided about the best of them."""
        if not evaluations:
            return evaluations, None
        place = place_of_best(evaluations)
        best, verdict = self._compared(evaluations[place])
        if verdict.accepted:
            best = replace(best, accepted=True)
            self.current = dict(best.candidate.values)
            self.store()
        return [*evaluations[:place], best, *evaluations[place + 1 :]], verdict

    def _compared(self, best: Evaluation) -> tuple[Evaluation, Verdict]:
        """The rule's verdict on all examples; a candidate that is no better on its own is spared the rest."""
        parts = self.parts
        if self._is_scoreless:
            return best, latest(best.scores, best.scores)
        if len(best.examples) < len(parts.examples):
            screened = better(best.scores, self.evaluation_of(self.current, best.examples).scores)
            if not screened.accepted:
                return best, screened
            parts.evaluator.evaluate([best.candidate.values], parts.examples, parts.ledger)
            whole = self.evaluation_of(best.candidate.values)
            best = replace(whole, candidate=best.candidate, step=best.step)
        return best, parts.rule(best.scores, self.evaluation_of(self.current).scores)

    def _worst_runs(self, values: Mapping[str, Any], batch: Sequence[int], rng: random.Random) -> list[Trajectory]:
        """Runs of the values on the batch's worst examples, ties in random order."""
        scores = dict(zip(batch, self._scores_of(values, batch), strict=True))
        order = sorted(rng.sample(list(batch), len(batch)), key=lambda i: (scores[i] is not None, scores[i] or 0.0))
        chosen = order[: self.parts.optimizer.shown]
        key, known = values_key(values), self.parts.evaluator.known
        if self._shows_graphs:
            runs = self._trajectories.graphs(values, chosen)
        else:
            runs = [self._trajectories.plain(i, known[key, i]) for i in chosen]
        return [self._told(values, i, run) for i, run in zip(chosen, runs, strict=True)]

    def _told(self, values: Mapping[str, Any], index: int, trajectory: Trajectory) -> Trajectory:
        """A run of the values as the optimizer is told it."""
        return trajectory

    def _scores_of(self, values: Mapping[str, Any], batch: Sequence[int]) -> Sequence[float | None]:
        """The values' scores on the batch; they may not have been run on all of it."""
        key = values_key(values)
        self.parts.evaluator.evaluate([values], batch, self.parts.ledger)
        return [self.parts.evaluator.known[key, i].feedback.scalar for i in batch]

    def _finish_step(
        self, evaluations: Sequence[Evaluation], sieved: Sieved, proposed: int, verdict: Verdict | None
    ) -> None:
        parts = self.parts
        refused = [*sieved.invalid, *sieved.duplicates]
        self._refused = [f"{r.values}: {r.reason}" for r in refused]
        row = {
            "step": self.step,
            "proposed": proposed,
            "invalid": len(sieved.invalid),
            "duplicates": len(sieved.duplicates),
            "evaluated": len(evaluations),
            **self._standing(evaluations),
            "accepted": verdict is not None and verdict.accepted,
            "verdict": verdict.reason if verdict else "nothing to evaluate",
            "spent": parts.ledger.spent(),
        }
        if refused:
            parts.record.save_refused(self.step, [vars(r) for r in refused])
        parts.record.save_step(row, evaluations, parts.optimizer.name, self.state())
        note = f"step {self.step}: accepted, score {number(row['current_score'])} ({row['verdict']})"
        parts.terminal.step(row, note if row["accepted"] else "")
        report = StepReport(row, evaluations, dict(self.current))
        for callback in parts.callbacks:
            callback(report)

    def _standing(self, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
        """What the metrics row says of how far the search has come."""
        self._best_score = highest([self._best_score, *(e.score for e in evaluations)])
        return {"best_score": self._best_score, "current_score": None if self._is_scoreless else self.score()}


def place_of_best(evaluations: Sequence[Evaluation]) -> int:
    """Where the best of a step is; of a step with halving only those are compared that went furthest."""
    return max(range(len(evaluations)), key=lambda i: (len(evaluations[i].examples), evaluations[i].rank))


def highest(scores: Sequence[float | None]) -> float | None:
    """The highest of those that are there; None where there is none."""
    return max((score for score in scores if score is not None), default=None)


def as_evaluation(candidate: Candidate, examples: Sequence[int], outcomes: Sequence[Outcome], step: int) -> Evaluation:
    """A candidate's outcomes as one evaluation."""
    return Evaluation(
        candidate,
        tuple(examples),
        tuple(outcome.feedback for outcome in outcomes),
        tuple(outcome.output for outcome in outcomes),
        step=step,
        failed=tuple(outcome.failed for outcome in outcomes),
    )
