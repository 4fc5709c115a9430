"""Procedural reasoning tasks of the reasoning-gym package, scored by their own scorers.

Use it with the reward `reasoning_gym`, which knows which entry a completion answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from engine.errors import ConfigError, DataError, UnknownName
from rl.judges import REASONING_GYM
from rl.sources.base import ListSource, SourceConfig, as_chat
from rl.types import Prompt

_AT_ONCE, _PATIENCE_S = 50, 120.0
"""Entries a question to the generating process, and how long it may take over them."""


class ReasoningGymConfig(SourceConfig):
    """`task`: its name in reasoning-gym; `options`: the task's own settings.

    `size` training and `held_out` further entries are generated from `task_seed`, the same ones in
    every run. `suffix` is put behind the question. `chat`: give it as a user's chat message, behind
    the message `system` if there is one.
    """

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    task: str
    options: dict[str, Any] = {}
    size: int = Field(500, ge=1)
    held_out: int = Field(100, ge=0)
    task_seed: int = 0
    suffix: str = ""
    chat: bool = False
    system: str | None = None


class ReasoningGym(ListSource):
    """Entries of one task. Columns: `answer`, and `task`, a plain record from which the entry is made again."""

    Config = ReasoningGymConfig

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The generated entries. Raises UnknownName, ConfigError, DataError or EnvironmentMissing."""
        config = self.config
        total = config.size + config.held_out
        task = {"name": config.task, "options": {**config.options, "size": total, "seed": config.task_seed}}
        prompts = [self._prompt(entry, {**task, "index": i}) for i, entry in enumerate(make_entries(task, total))]
        return prompts[: config.size], prompts[config.size :]

    def _prompt(self, entry: dict[str, Any], task: dict[str, Any]) -> Prompt:
        text = entry["question"] + self.config.suffix
        prompt = as_chat(text, self.config.system) if self.config.chat or self.config.system else text
        return Prompt(f"{task['name']}/{task['index']}", prompt, {"answer": entry["answer"], "task": task})


def make_entries(task: dict[str, Any], total: int) -> Iterator[dict[str, Any]]:
    """{"question", "answer"} of the task's entries 0 to total-1. Raises as ReasoningGym.read does."""
    for start in range(0, total, _AT_ONCE):
        indices = list(range(start, min(start + _AT_ONCE, total)))
        reply = REASONING_GYM.ask({"task": task, "indices": indices}, _PATIENCE_S)
        if reply is None:
            raise DataError(
                f"the task {task['name']} made no {len(indices)} entries in {_PATIENCE_S} s",
                next_step="choose easier source.options",
            )
        if "unknown" in reply:
            raise UnknownName("reasoning-gym task", task["name"], reply["unknown"], place="source.task")
        if "invalid" in reply:
            raise ConfigError(reply["invalid"], place=f"source.options of the task {task['name']}")
        yield from reply["entries"]


SOURCE = ReasoningGym
