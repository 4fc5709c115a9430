"""Evolution of code by edits on islands (AlphaEvolve, arXiv 2506.13131; FunSearch, Nature 625, 468)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from engine.errors import AnswerError, BudgetSpent, ParamError
from engine.llm.base import Message, Request
from engine.llm.parsing import Unreadable, read_answer
from engine.optimizers._answers import after_thinking, model_of
from engine.optimizers._blocks import blocks_of, edited, has_blocks
from engine.optimizers._islands import Island, drawn, inspirations, island_of, islands
from engine.optimizers._words import constraint_of, fenced, show, variable
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State, Trajectory
from engine.optimizers.optoprime import said
from engine.params import Param

INSTRUCTION = Path(__file__).with_name("evolve.md").read_text(encoding="utf-8")
REPAIR = "This answer cannot be used: {}\nWrite the whole answer again, with the fault removed."
REASON_CHARACTERS = 500


class EvolveOptions(Options):
    """The defaults are for budgets of about a hundred evaluations.

    More islands are for longer searches: in a short one each sees a share of the evaluations only.
    """

    candidates: int = Field(default=2, ge=1, description="candidates asked for in a step, samples of one prompt")
    islands: int = Field(default=2, ge=1, description="populations; each step works on one, in turn")
    population: int = Field(default=4, ge=2, description="versions that live on an island")
    migrate_every: int = Field(default=6, ge=1, description="steps between two migrations of the best to the next")
    inspirations: int = Field(default=2, ge=0, description="other versions of the island shown in a prompt")
    examples: int = Field(default=3, ge=1, description="runs of the parent shown, the worst first")
    repair: bool = Field(default=True, description="ask once more, with the fault, where an answer cannot be used")
    objective: str = Field(default="", description="what to achieve, told first; by default the workflow's docstring")
    max_value_characters: int = Field(default=8000, ge=100, description="a longer text is cut, and the cut marked")
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=2048, ge=1)


class Evolve(Optimizer):
    """Asks for SEARCH/REPLACE edits of a version drawn from one of several populations.

    Step s works on island (s - 1) mod `islands`. The parent is drawn by its rank there (weights 1, 1/2, 1/3...);
    shown are its source, its worst runs, and as inspirations others of the island: the best, and one that is better on
    the most examples. What is evaluated lives on that island alone, until every `migrate_every` steps the best of each
    is copied to the next. All of this is computed from the history, so that nothing but it is needed to
    resume. For parameters of kind code and text; others are edited as JSON. An answer without a block may be one
    whole function. An answer that cannot be applied, or that its parameter refuses, is asked for once more with the
    fault (`repair`; a call that counts), and else counts as invalid. Nothing of an answer runs in this process.

    Departures: parents are drawn by rank and not from clusters at a temperature (FunSearch); no island is reset,
    migrants come instead, as in OpenEvolve; instead of MAP-Elites' features a full island keeps first one
    version for each pattern of scores; one model, no cascade of tests. Ranks are means over the examples
    that a version was evaluated on: with `batch_size` these differ, so luck counts. Where a ranker judges, scores
    hold within a step alone, and ranks say little. Refused answers are shown where there is one island, because they
    quote another one's source where there are several.
    """

    needs = frozenset({"score", "text"})
    Config: ClassVar[type[Options]] = EvolveOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shown = self.config.examples
        self._found: tuple[int, Sequence[Evaluation], list[Island]] | None = None

    def parent(self, state: State) -> Mapping[str, Any]:
        return drawn(self.island(state), state.rng).candidate.values

    def propose(self, state: State, n: int) -> list[Candidate]:
        messages = self.messages(state)
        answer = model_of(state).complete(messages, n=n, **self._sampling())
        found = [_candidate(*choice, state) for choice in zip(answer.texts, answer.finish_reasons, strict=True)]
        return self._mended(state, messages, answer.texts, found) if self.config.repair else found

    def island(self, state: State) -> Island:
        """The population that this step works on."""
        config, history = self.config, tuple(state.history)
        if self._found is None or self._found[0] != state.step or not _is_same(self._found[1], history):
            limits = {"population": config.population, "migrate_every": config.migrate_every}
            found = islands(history, state.step, count=config.islands, **limits)
            self._found = state.step, history, found
        return self._found[2][island_of(state.step, config.islands)]

    def messages(self, state: State) -> list[Message]:
        """The conversation of one call."""
        island = self.island(state)
        scores = [e.score for e in island if e.candidate.values == state.current]
        sections = {
            "Source": [self._source(p, state.current[p.name]) for p in state.params],
            "Limits": [f"{p.name}: {text}" for p in state.params if (text := constraint_of(p))],
            "Score": [said("", score) for score in scores[:1]],
            "Runs": [line for number, t in enumerate(state.trajectories, 1) for line in self._run(number, t)],
            "Others": [
                line
                for number, e in enumerate(inspirations(island, state.current, self.config.inspirations), 1)
                for line in self._other(number, e, state)
            ],
            "Refused": list(state.notes.get("refused", ())) if self.config.islands == 1 else [],
        }
        parts = [f"#{name}\n" + "\n".join(lines) for name, lines in sections.items() if any(lines)]
        objective = self.config.objective or state.objective
        prompt = "\n\n".join([objective, *parts] if objective else parts)
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]

    def _mended(
        self, state: State, messages: Sequence[Message], said: Sequence[str], found: Sequence[Candidate]
    ) -> list[Candidate]:
        """The candidates; those with a fault are asked for once more, side by side, as far as the budget goes."""
        mended = list(found)
        faulty = [i for i, candidate in enumerate(found) if candidate.fault]
        requests = [Request([*messages, *_told(said[i], found[i].fault)], 1, self._sampling()) for i in faulty]
        answers = model_of(state).complete_all(requests)
        try:
            for i in faulty:
                again = next(answers)
                mended[i] = _candidate(again.text, again.finish_reasons[0], state)
        except (AnswerError, BudgetSpent):
            pass  # those that are left keep their fault
        return mended

    def _sampling(self) -> dict[str, Any]:
        return {"temperature": self.config.temperature, "max_tokens": self.config.max_tokens}

    def _source(self, param: Param, value: Any) -> str:
        if param.kind == "text":
            return f"(text) {param.name} =\n{fenced(value)}"
        return variable(param, value)

    def _run(self, number: int, trajectory: Trajectory) -> list[str]:
        told = {
            "example": trajectory.example,
            "output": trajectory.output,
            "feedback": said(trajectory.feedback.text, trajectory.feedback.scalar),
        }
        return [f"run {number}:", *(self._cut(f"{name} = {text}") for name, text in told.items() if text)]

    def _other(self, number: int, evaluation: Evaluation, state: State) -> list[str]:
        """Another version: what it scored, what was said of its worst runs, and its texts where they differ."""
        judged = sorted(evaluation.feedback, key=lambda f: (f.scalar is not None, f.scalar or 0.0))
        remarks = dict.fromkeys(f.text for f in judged if f.text)
        values = evaluation.candidate.values
        changed = [p for p in state.params if values[p.name] != state.current[p.name]]
        return [
            f"version {number}: "
            + self._cut(said(" | ".join(list(remarks)[: self.config.examples]), evaluation.score)),
            *(self._cut(self._source(p, values[p.name])) for p in changed),
        ]

    def _cut(self, text: str) -> str:
        limit = self.config.max_value_characters
        return text if len(text) <= limit else f"{text[:limit]} ... [{len(text) - limit} more characters]"


def _is_same(one: Sequence[Evaluation], other: Sequence[Evaluation]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _told(answer: str, fault: str) -> list[Message]:
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": REPAIR.format(fault)}]


def _candidate(answer: str, finish_reason: str, state: State) -> Candidate:
    """What an answer gives, or why it gives nothing."""
    try:
        return read(answer, finish_reason, state)
    except (AnswerError, ParamError) as error:
        return Candidate({}, fault=error.message)


def read(answer: str, finish_reason: str, state: State) -> Candidate:
    """The candidate that an answer makes of the present values.

    Raises AnswerError or ParamError: what is wrong with it.
    """
    if finish_reason == "refusal":
        raise AnswerError(f"the model refuses: {answer:.200}")
    answer = after_thinking(answer)
    if not has_blocks(answer):
        if finish_reason == "length":
            raise AnswerError("the answer was cut off at its most tokens")
        return Candidate(_whole(state.params, answer), "written anew")
    params = {p.name: p for p in state.params}
    present = {name: _text(p, state.current[name]) for name, p in params.items()}
    values = {name: _value(params[name], text) for name, text in edited(present, blocks_of(answer)).items()}
    reason = re.split(r"^[ \t]*<{5,9} ?SEARCH", answer, maxsplit=1, flags=re.MULTILINE)[0]
    return Candidate(values, reason.strip().removesuffix("```python").rstrip("`").strip()[:REASON_CHARACTERS])


def _text(param: Param, value: Any) -> str:
    """What blocks are matched against, which is what the model is shown."""
    return str(value) if param.kind in ("code", "text") else show(value)


def _value(param: Param, text: str) -> Any:
    """The value that an edited text is; code is read and not run. Raises AnswerError or ParamError."""
    if param.kind in ("code", "text"):
        return param.admit(text, "model")[0]
    try:
        return param.admit(read_answer(text, param.schema()), "model")[0]
    except Unreadable as error:
        raise AnswerError(f"{param.name} = {text:.200}: {error}") from None


def _whole(params: Sequence[Param], answer: str) -> dict[str, Any]:
    """The function that an answer without blocks is. Raises AnswerError or ParamError."""
    code = [p for p in params if p.kind == "code"]
    if not code or "def " not in answer:
        raise AnswerError("the answer has no SEARCH/REPLACE block" + (", and is no function" if code else ""))
    if len(code) == 1:
        return {code[0].name: _value(code[0], answer)}
    for param in code:
        try:
            return {param.name: _value(param, answer)}
        except ParamError:
            continue
    raise AnswerError(f"the answer has no SEARCH/REPLACE block, and is none of {', '.join(p.name for p in code)}")


OPTIMIZER = Evolve
