"""Self-play: prompts that ask for program triplets, and buffers of those that were good (see rl.triplets).

The buffers are in this source's state, so every checkpoint holds them. The method azr fills them.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from engine.errors import CheckpointError, ConfigError
from rl.sources.base import Source, SourceConfig, beside, fixed_sample
from rl.triplets import ALLOWED_IMPORTS, FORMS, TASKS, Buffer, Limits, Proposal, Task, Triplet, checked, static_fault
from rl.triplets.seeds import IDENTITY, Seed, read_seeds, triplets_of
from rl.types import Prompt


class TripletsConfig(SourceConfig):
    """Defaults are the paper's.

    `form`: how tasks are worded, `tags` (<think>, <answer>) or `line` (one-line functions, for base models). `chat`: as
    a user's message, not as text. `references`: earlier triplets that a proposer is shown. `inputs`: what an induction
    has, half of them shown. `size`: triplets a task that are remembered. `program_pattern`, `input_pattern`: regular
    expressions that a whole program and each input must match. `held_out`: triplets to measure on, which are never
    trained on: the name of a bundled file (programs, one_line) or a path of JSON lines with the keys of `seeds`.
    """

    kind: Literal["triplets"] = "triplets"
    form: Literal["tags", "line"] = "tags"
    chat: bool = True
    tasks: tuple[Task, ...] = Field(TASKS, min_length=1)
    references: int = Field(6, ge=0)
    inputs: int = Field(10, ge=2)
    size: int = Field(16384, ge=1)
    seeds: tuple[Seed, ...] = Field((IDENTITY,), min_length=1)
    held_out: str | None = "programs"
    evaluated: int = Field(200, ge=1)
    program_pattern: str | None = None
    input_pattern: str | None = None
    timeout_s: float = Field(10.0, gt=0)
    max_chars: int = Field(4096, ge=1)
    imports: tuple[str, ...] = ALLOWED_IMPORTS

    @field_validator("program_pattern", "input_pattern")
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return pattern


class Triplets(Source):
    """Prompts for proposers in turn of the tasks; `buffers`: task -> what may be shown and solved.

    `drawn`: how often something was drawn at random, from which the next draw follows.
    """

    Config = TripletsConfig

    def __init__(self, config: TripletsConfig, *, seed: int = 0, near: Path | None = None) -> None:
        super().__init__(config, seed=seed, near=near)
        self.form = FORMS[config.form]
        self.limits = Limits(config.timeout_s, config.max_chars, config.imports)
        self.drawn = 0
        self.buffers = {
            task: Buffer(config.size, found) for task, found in triplets_of(config.seeds, TASKS, self.limits).items()
        }
        folders = [path.parent for path in beside("_", near)]
        rows = read_seeds(config.held_out, folders) if config.held_out else []
        self.held_out = [t for found in triplets_of(rows, config.tasks, self.limits).values() for t in found]
        self._kept = {triplet.key for triplet in self.held_out}
        if any(triplet.key in self._kept for buffer in self.buffers.values() for triplet in buffer):
            raise ConfigError("a triplet of source.seeds is also one of source.held_out", place="source.seeds")

    def batch(self, n: int) -> list[Prompt]:
        """n prompts that ask for proposals, of the tasks in turn."""
        return [self._propose() for _ in range(n)]

    def evaluation(self) -> dict[str, list[Prompt]]:
        """ "train": questions from the buffers as they are now; "held_out"; at most `evaluated` of each."""
        splits = {"train": [t for task in self.config.tasks for t in self.buffers[task]], "held_out": self.held_out}
        limit = self.config.evaluated
        return {name: list(map(self.question, fixed_sample(part, limit))) for name, part in splits.items() if part}

    def question(self, triplet: Triplet) -> Prompt:
        """The prompt that asks a solver for the hidden part."""
        name = hashlib.sha256(triplet.key.encode()).hexdigest()[:16]
        columns = {**triplet.as_dict(), "role": "solve", "form": self.config.form, "limits": self.limits.as_dict()}
        return self._prompt(f"solve-{triplet.task}-{name}", self.form.solve(triplet), columns)

    def replay(self, task: Task, n: int) -> list[Triplet]:
        """n triplets of the task's buffer; all of them where there are fewer."""
        return self.buffers[task].sample(n, self._draws())

    def answer(self, prompt: Prompt, completion: str) -> str | None:
        """What a completion answers to a prompt of this source; None where it does not keep to the form."""
        row = prompt.columns["triplet"]
        return self.form.answer(row["role"], row["task"], completion)

    def proposal(self, prompt: Prompt, completion: str) -> Proposal | str:
        """What a completion proposes; "format", "input" or the `static_fault` where that cannot even be run."""
        row = prompt.columns["triplet"]
        answer = self.answer(prompt, completion)
        if answer is None:
            return "format"
        proposal = self.form.proposal(row["task"], answer, row["program"], self.config.inputs)
        return (static_fault(proposal, self.limits) or proposal) if proposal is not None else "input"

    def checked(self, proposals: Sequence[Proposal]) -> list[Triplet | str]:
        """The triplet of each proposal; or why there is none: as `rl.triplets.checked`, "pattern" or "held_out"."""
        found = checked(proposals, self.limits)
        return [t if isinstance(t, str) else self._refusal(t) or t for t in found]

    def state_dict(self) -> dict[str, Any]:
        """The seed, the draws and all buffers."""
        buffers = {task: [t.as_dict() for t in buffer] for task, buffer in self.buffers.items()}
        return {"seed": self.seed, "drawn": self.drawn, "buffers": buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with those buffers."""
        try:
            self.seed, self.drawn = state["seed"], state["drawn"]
            kept = {task: [Triplet.of(row) for row in state["buffers"][task]] for task in TASKS}
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the checkpoint's source has no buffers of triplets: {error}") from None
        self.buffers = {task: Buffer(self.config.size, kept[task]) for task in TASKS}

    def _propose(self) -> Prompt:
        number, draws = self.drawn, self._draws()
        task = self.config.tasks[number % len(self.config.tasks)]
        program = ""
        if task == "induction":
            program = draws.choice([*self.buffers["deduction"], *self.buffers["abduction"]]).program
        references = self.buffers[task].sample(self.config.references, draws)
        text = self.form.propose(task, references, program, self.config.inputs)
        columns = {"role": "propose", "task": task, "form": self.config.form, "program": program}
        return self._prompt(f"propose-{task}-{number}", text, columns)

    def _prompt(self, name: str, text: str, row: Mapping[str, Any]) -> Prompt:
        return Prompt(name, [{"role": "user", "content": text}] if self.config.chat else text, {"triplet": row})

    def _draws(self) -> random.Random:
        self.drawn += 1
        return random.Random(f"triplets/{self.seed}/{self.drawn}")

    def _refusal(self, triplet: Triplet) -> str | None:
        """Why this run does not want a triplet that is valid otherwise."""
        program, given = self.config.program_pattern, self.config.input_pattern
        if program and not re.fullmatch(program, triplet.program):
            return "pattern"
        if given and not all(re.fullmatch(given, text) for text in triplet.inputs):
            return "pattern"
        return "held_out" if triplet.key in self._kept else None


SOURCE = Triplets
