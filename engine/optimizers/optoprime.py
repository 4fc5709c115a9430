"""OptoPrime (Trace, arXiv 2406.16218, section 3.3): one call reads code, values and feedback, and suggests values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from engine.graph.subgraph import Subgraph
from engine.llm.base import Message
from engine.media import Media, content
from engine.optimizers._answers import suggestions
from engine.optimizers._words import constraint_of, variable
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State, Trajectory

INSTRUCTION = Path(__file__).with_name("optoprime.md").read_text(encoding="utf-8")
ORDER = (
    *("Code", "Documentation", "Variables", "Constraints", "Inputs", "Others", "Outputs", "Feedback"),
    *("History", "Refused"),
)


class OptoPrimeOptions(Options):
    """`graph`, `feedback` and `memory` = 0 take parts out of what the model sees: ablations."""

    candidates: int = Field(default=1, ge=1, description="candidates asked for in a step")
    examples: int = Field(default=3, ge=1, description="runs shown in a step, the worst first")
    memory: int = Field(default=8, ge=0, description="earlier evaluations shown")
    graph: bool = Field(default=True, description="show code, documentation, inputs and intermediate values")
    feedback: bool = Field(default=True, description="show what was said about the runs, and their scores")
    sources: bool = Field(default=False, description="show the source of the operations, not only what they say of it")
    objective: str = Field(default="", description="what to achieve, told first; by default the workflow's docstring")
    images: int = Field(default=0, ge=0, description="pictures of the examples shown, to a model that can see them")
    max_value_characters: int = Field(default=8000, ge=100, description="a longer value is cut, and the cut marked")
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=1024, ge=1)


class OptoPrime(Optimizer):
    """Shows the minimal sub-graph of the worst runs of the present values, and asks for better values.

    The answer is {"reasoning": text, "suggestion": {name: value}}, constrained by the parameters' types.

    Departures from the paper: several runs stand in one prompt under one set of headings; the memory is the
    latest evaluations whether accepted or not, with scores; a step works from the best values so far, accepted
    or not (see `parent`); several candidates may be asked for at once (`n` samples of one prompt); the answer is a
    constrained JSON value, so nothing is parsed out of prose; and the loop, not the optimizer, decides
    whether a suggestion is taken.
    """

    needs = frozenset({"score", "text", "graph"})
    Config: ClassVar[type[Options]] = OptoPrimeOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shown = self.config.examples

    def parent(self, state: State) -> Mapping[str, Any]:
        """The values with the highest mean on all of the data; those that the loop holds where none is higher.

        A gain too small for the acceptance test is kept to be built upon: several of them together pass it.
        Where the start has no scores or a ranker judges it is the held values.
        """
        start = state.history[0]
        whole = [e for e in state.history if e.examples == start.examples]
        held = next((e for e in whole if dict(e.candidate.values) == dict(state.current)), None)
        if state.is_ranked or start.score is None or held is None:
            return state.current
        return max([held, *whole], key=lambda e: e.rank).candidate.values

    def propose(self, state: State, n: int) -> list[Candidate]:
        sampling = {"temperature": self.config.temperature, "max_tokens": self.config.max_tokens}
        return suggestions(state, self.messages(state), n, **sampling)

    def messages(self, state: State) -> list[Message]:
        """The conversation of one call."""
        sections = {
            **self._runs(state.trajectories),
            "Variables": [variable(p, state.current[p.name]) for p in state.params],
            "Constraints": [f"{p.name}: {text}" for p in state.params if (text := constraint_of(p))],
            "History": self._history(state),
            "Refused": list(state.notes.get("refused", ())),
        }
        parts = [f"#{name}\n" + "\n".join(sections[name]) for name in ORDER if sections.get(name)]
        objective = self.config.objective or state.objective
        prompt = "\n\n".join([objective, *parts] if objective else parts)
        pictures = self._pictures(state.trajectories)
        said: Any = content(prompt, *pictures) if pictures else prompt
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": said}]

    def _pictures(self, trajectories: Sequence[Trajectory]) -> list[str | Media]:
        """The pictures of the runs, each once and after a line that tells which it is."""
        found = {media.sha256: media for t in trajectories for media in t.media if media.is_image}
        shown = list(found.values())[: self.config.images]
        return [part for media in shown for part in (f"The picture with sha256 {media.sha256}:", media)]

    def _runs(self, trajectories: Sequence[Trajectory]) -> dict[str, list[str]]:
        """The sections that tell about runs, each with a heading a run where there are several."""
        tell: dict[str, Callable[[Trajectory], list[str]]] = {"Outputs": self._outputs}
        if self.config.graph:
            tell |= {"Code": _code, "Inputs": self._inputs, "Others": self._others}
        if self.config.feedback:
            tell["Feedback"] = lambda t: [said(t.feedback.text, t.feedback.scalar)]
        sections = {}
        for name, function in tell.items():
            told = [function(trajectory) for trajectory in trajectories]
            if name == "Code" and all(lines == told[0] for lines in told):
                told = told[:1]  # the same operations on every example
            sections[name] = _joined(told)
        if self.config.graph:
            texts = [t.subgraph.documentation(sources=self.config.sources) for t in trajectories if t.subgraph]
            sections["Documentation"] = list(dict.fromkeys(line for text in texts for line in text.splitlines()))
        return sections

    def _inputs(self, trajectory: Trajectory) -> list[str]:
        if trajectory.subgraph is None:
            return [self._cut(f"example = {trajectory.example}")] if trajectory.example else []
        return self._values(trajectory.subgraph, trajectory.subgraph.inputs)

    def _others(self, trajectory: Trajectory) -> list[str]:
        graph = trajectory.subgraph
        if graph is None:
            return []
        ends = set(map(id, graph.outputs))
        return self._values(graph, [node for node in graph.inner if id(node) not in ends])

    def _outputs(self, trajectory: Trajectory) -> list[str]:
        graph = trajectory.subgraph
        if graph is None or not self.config.graph:
            return [self._cut(f"output = {trajectory.output}")]
        return self._values(graph, graph.outputs)

    def _values(self, graph: Subgraph, nodes: Sequence[Any]) -> list[str]:
        return [self._cut(f"{graph.label(node)} = {graph.text(node)}") for node in nodes]

    def _cut(self, line: str) -> str:
        limit = self.config.max_value_characters
        return line if len(line) <= limit else f"{line[:limit]} ... [{len(line) - limit} more characters]"

    def _history(self, state: State) -> list[str]:
        """The latest evaluations of other than the present values, oldest first."""
        others = [e for e in state.history if dict(e.candidate.values) != dict(state.current)]
        names = [p.name for p in state.params]
        return [self._entry(e, names) for e in others[-self.config.memory :]] if self.config.memory else []

    def _entry(self, evaluation: Evaluation, names: Sequence[str]) -> str:
        values = json.dumps({name: evaluation.candidate.values[name] for name in names}, ensure_ascii=False)
        texts = dict.fromkeys(f.text for f in evaluation.feedback if f.text)
        shown = list(texts)[: self.config.examples] if self.config.feedback else []
        return f"{values}: {said(' | '.join(shown), evaluation.score)}"


def said(text: str, score: float | None) -> str:
    """A judgement as one text: 'score 0.5: too long'."""
    told = "" if score is None else f"score {score:.6g}"
    return f"{told}: {text}" if told and text else told or text


def _code(trajectory: Trajectory) -> list[str]:
    return trajectory.subgraph.code().splitlines() if trajectory.subgraph else []


def _joined(told: Sequence[list[str]]) -> list[str]:
    """The lines of each run, under a heading where there are several runs with lines."""
    if len(told) < 2:
        return [line for lines in told for line in lines]
    return [line for number, lines in enumerate(told, 1) if lines for line in (f"run {number}:", *lines)]


OPTIMIZER = OptoPrime
