"""EGuR (arXiv 2511.11519): a Guide proposes from a memory of strategies, a Consolidator keeps the memory."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from engine.llm.base import Message
from engine.llm.schema import Schema
from engine.llm.structured import MalformedAnswer
from engine.optimizers._answers import model_of, suggestions
from engine.optimizers._memory import (
    OUTCOME,
    SITUATION,
    STRATEGY,
    TEXT,
    VALUES,
    Entry,
    Experience,
    Memory,
    Store,
    cut,
    recounted,
    told,
)
from engine.optimizers._words import constraint_of, variable
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State, Trajectory

GUIDE = Path(__file__).with_name("egur_guide.md").read_text(encoding="utf-8")
CONSOLIDATOR = Path(__file__).with_name("egur_consolidator.md").read_text(encoding="utf-8")

AT_ONCE = 16
"""How many experiences are consolidated in one call; further ones wait for the next step."""

UPDATES = 8
"""How many lessons one consolidation may write."""


class EgurOptions(Options):
    candidates: int = Field(default=4, ge=1, description="candidates asked for in a step")
    memory: str | None = Field(default=None, min_length=1, description="a .json file that outlives the run")
    size: int = Field(default=24, ge=2, description="entries of the memory")
    examples: int = Field(default=3, ge=0, description="runs of the present values shown in a step, the worst first")
    objective: str = Field(default="", description="what to achieve, told first; by default the workflow's docstring")
    temperature: float = Field(default=1.0, ge=0, description="of the Guide; the Consolidator's is 0")
    max_tokens: int = Field(default=1024, ge=1)


class Egur(Optimizer):
    """Asks for values with the memory in view, and turns what came of them into the memory's next entries.

    Guide: one prompt with the memory, the worst runs of the present values and the parameters is sampled
    `candidates` times; what it gives as its reasoning is the strategy. Consolidator: before the next proposals one
    call compares the evaluations of the last step and answers with lessons that are new or corrected, the
    evaluations that each rests on, and entries to remove. An entry has a situation, a strategy, an outcome, the number
    of evaluations that bear it out, their mean score and the best values among them; the last three are
    counted here, from the evaluations that were named, and never taken from an answer. A malformed answer of the
    Consolidator leaves the memory as it is (`unusable` in the state counts them).

    With `memory` the entries and the last step's evaluations, which wait for the next run's Consolidator, are kept
    in that file, written after each step. A run reads it once, at its start, and goes on from its own
    state, so that a run that was killed and resumed ends with the same history and the same file; several runs may
    share a file (see `Store.merge`).

    Departures from the paper: a strategy is a way of setting the parameters of the traced program, and not a
    program written anew for every problem; one set of values serves all examples; what a run costs is not compared,
    only scores and texts are; the numbers of an entry are counted outside the model; and the prompts are ours.
    """

    needs = frozenset({"score", "text"})
    Config: ClassVar[type[Options]] = EgurOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shown = self.config.examples
        path = None if self.config.memory is None else Path(self.config.memory).expanduser()
        self._store = Store(path, self.config.size)
        self._store.load()  # a file that is no memory is refused before anything is paid for
        self._memory: Memory | None = None
        self._origin, self.unusable = "", 0

    def calls(self, params: int) -> int:
        return 2

    def propose(self, state: State, n: int) -> list[Candidate]:
        if self.memory.waiting:
            self._consolidate(state)
        sampling = {"temperature": self.config.temperature, "max_tokens": self.config.max_tokens}
        return suggestions(state, self.messages(state), n, **sampling)

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        memory = self.memory
        new = [experience(evaluation, self._origin) for evaluation in evaluations]
        self._memory = replace(memory, waiting=(*memory.waiting, *new)).bounded(self.config.size)
        self._store.merge(self._memory)

    def state_dict(self) -> dict[str, Any]:
        memory = self.memory.to_json()
        return {"memory": memory, "origin": self._origin, "gone": list(self._store.gone), "unusable": self.unusable}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        self._memory, self._origin = Memory.of(state["memory"], "the state of egur"), state["origin"]
        self._store.gone, self.unusable = dict.fromkeys(state["gone"]), state["unusable"]

    @property
    def memory(self) -> Memory:
        """What the run knows; read from the file when it is first asked for, which is before the first step."""
        if self._memory is None:
            self._memory = self._store.load()
            self._origin = self._memory.key()
        return self._memory

    def messages(self, state: State) -> list[Message]:
        """The Guide's conversation."""
        sections = {
            "Memory": told(self.memory.ranked()),
            "Runs": [_run(trajectory) for trajectory in state.trajectories],
            "Variables": [variable(param, state.current[param.name]) for param in state.params],
            "Score": [_score(state)],
            "Constraints": [f"{p.name}: {text}" for p in state.params if (text := constraint_of(p))],
            "Refused": list(state.notes.get("refused", ())),
        }
        return self._conversation(GUIDE, state, sections)

    def _conversation(self, system: str, state: State, sections: Mapping[str, Sequence[str]]) -> list[Message]:
        objective = self.config.objective or state.objective
        parts = [f"#{name}\n" + "\n".join(lines) for name, lines in sections.items() if lines]
        told_all = "\n\n".join([objective, *parts] if objective else parts)
        return [{"role": "system", "content": system}, {"role": "user", "content": told_all}]

    def _consolidate(self, state: State) -> None:
        """Turn what waits into entries. It waits no longer, whatever the answer is."""
        memory = self.memory
        ranked, heard = memory.ranked(), memory.waiting[:AT_ONCE]
        sections = {"Memory": told(ranked), "Experiences": recounted(heard), "Score": [_score(state)]}
        messages = self._conversation(CONSOLIDATOR, state, sections)
        schema = consolidation_schema(len(ranked), len(heard))
        entries, removed = {entry.id: entry for entry in memory.entries}, set[str]()
        try:
            answer = model_of(state).complete(
                messages, schema=schema, temperature=0.0, max_tokens=self.config.max_tokens
            )
            entries, removed = _updated(entries, ranked, heard, answer.parsed[0], self._origin)
        except MalformedAnswer:
            self.unusable += 1
        self._store.gone |= dict.fromkeys([*sorted(removed), *(seen.id for seen in heard)])
        self._memory = Memory(tuple(entries.values()), memory.waiting[len(heard) :]).bounded(self.config.size)


def consolidation_schema(entries: int, experiences: int) -> Schema:
    """The JSON schema of the Consolidator's answer to so many numbered entries and experiences."""
    update = {
        "entry": {"type": "integer", "minimum": 0, "maximum": entries},
        "situation": {"type": "string", "minLength": 1, "maxLength": SITUATION},
        "strategy": {"type": "string", "minLength": 1, "maxLength": STRATEGY},
        "outcome": {"type": "string", "maxLength": OUTCOME},
        "evidence": _numbers(experiences, least=1),
    }
    lesson = {"type": "object", "properties": update, "required": list(update), "additionalProperties": False}
    whole = {
        "reasoning": {"type": "string"},
        "updates": {"type": "array", "items": lesson, "maxItems": UPDATES},
        "remove": _numbers(entries),
    }
    return {"type": "object", "properties": whole, "required": list(whole), "additionalProperties": False}


def experience(evaluation: Evaluation, origin: str) -> Experience:
    """An evaluation as the Consolidator is told it; its id is one of its content, and of the run's beginning."""
    values = json.dumps(dict(evaluation.candidate.values), ensure_ascii=False, sort_keys=True, default=str)
    score = evaluation.score if evaluation.score is not None and math.isfinite(evaluation.score) else None
    texts = dict.fromkeys(f.text for f in evaluation.feedback if f.text)
    return Experience(
        id=_id(origin, str(evaluation.step), values, str(score)),
        strategy=cut(evaluation.candidate.reason, STRATEGY),
        values=cut(values, VALUES),
        score=score,
        failed=sum(evaluation.failed),
        texts=tuple(cut(text, TEXT) for text in list(texts)[:3]),
    )


def _updated(
    entries: Mapping[str, Entry],
    ranked: Sequence[Entry],
    heard: Sequence[Experience],
    answer: Mapping[str, Any],
    origin: str,
) -> tuple[dict[str, Entry], set[str]]:
    """The entries after a checked answer, and the ids that it took out."""
    kept = dict(entries)
    for update in answer["updates"]:
        evidence = [heard[number - 1] for number in sorted(set(update["evidence"]))]
        entry = _lesson(update, [seen.id for seen in evidence], origin)
        # What is said again word for word is no new lesson.
        same = [e for e in kept.values() if (e.situation, e.strategy) == (entry.situation, entry.strategy)]
        if update["entry"]:
            same = [kept[ranked[update["entry"] - 1].id]]
        if same:
            entry = replace(same[0], situation=entry.situation, strategy=entry.strategy, outcome=entry.outcome)
        kept[entry.id] = entry.with_evidence(evidence)
    corrected = {update["entry"] for update in answer["updates"]}
    removed = {ranked[number - 1].id for number in answer["remove"] if number not in corrected}
    return {key: entry for key, entry in kept.items() if key not in removed}, removed


def _lesson(update: Mapping[str, Any], evidence: Sequence[str], origin: str) -> Entry:
    """An update as a new entry without evidence."""
    situation, strategy = cut(update["situation"], SITUATION), cut(update["strategy"], STRATEGY)
    outcome = cut(update["outcome"], OUTCOME)
    return Entry(_id(origin, situation, strategy, outcome, *evidence), situation, strategy, outcome)


def _numbers(most: int, least: int = 0) -> Schema:
    """Numbers from 1 to `most`."""
    items = {"type": "integer", "minimum": 1, "maximum": max(1, most)}
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _id(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _score(state: State) -> str:
    """The latest score of the present values."""
    same = [e.score for e in state.history if dict(e.candidate.values) == dict(state.current)]
    return f"the present values have the score {same[-1]:.4g}" if same and same[-1] is not None else "no score"


def _run(trajectory: Trajectory) -> str:
    feedback = trajectory.feedback
    score = "" if feedback.scalar is None else f", score {feedback.scalar:.4g}"
    said = f"; said: {cut(feedback.text, TEXT)}" if feedback.text else ""
    return f"example {cut(trajectory.example, TEXT)} gave {cut(trajectory.output, TEXT)}{score}{said}"


OPTIMIZER = Egur
