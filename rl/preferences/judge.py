"""A language model that compares two completions, asked in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from engine import gallery
from engine.config import Config
from engine.errors import ConfigError
from engine.llm import resolve
from rl.preferences.base import Contest, Preference, Verdict, in_both_orders
from rl.types import Prompt


class JudgeConfig(Config):
    """`llm`: the model, as openai:MODEL, http://host:port/v1#MODEL or local:NAME; null: what the environment names.

    `agent`: "path/to/file.py:name", a function of (question, first, second, llm) that returns a number from 0 to 1
    and asks once: the gallery's judge, or a copy with another instruction. `workers`: requests at once.
    """

    kind: Literal["judge"] = "judge"
    llm: str | None = None
    agent: str = "agents/judge.py:prefer"
    workers: int = Field(default=8, ge=1)


class Judge(Preference):
    """Asks an agent. A judge's answers may differ from call to call, so only the updates of a run are repeatable."""

    def __init__(self, config: Any, *, near: Path | None = None) -> None:
        super().__init__(config, near=near)
        loaded = gallery.load(config.agent, near=near)
        if not callable(loaded):
            raise ConfigError(f"{config.agent} is a {type(loaded).__name__}", allowed="a function")
        self.agent, self.llm = loaded, resolve(config.llm)

    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        return in_both_orders(contests, self._compare, workers=self.config.workers, is_repeatable=True)

    def _compare(self, prompt: Prompt, first: str, second: str) -> Any:
        return self.agent(question_of(prompt), first, second, self.llm)


def question_of(prompt: Prompt) -> str:
    """The prompt as one text; of a chat each message under its role."""
    if isinstance(prompt.prompt, str):
        return prompt.prompt
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt.prompt)
