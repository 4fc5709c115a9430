"""A program that compares two completions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from engine import gallery
from engine.config import Config
from engine.errors import ConfigError
from rl.preferences.base import Contest, Preference, Verdict, in_both_orders
from rl.types import Prompt


class ProgramConfig(Config):
    """`function`: "path/to/file.py:name", a function of (prompt, first, second) and of the columns that it names.

    It returns a number from 0 (the second is better) to 1 (the first is), or None for no opinion; it is called in
    both orders. `workers`: calls at once, from threads.
    """

    kind: Literal["program"] = "program"
    function: str
    workers: int = Field(default=1, ge=1)


class Program(Preference):
    """Asks a function of the user. Raises what gallery.load raises, ConfigError for something that is no function."""

    def __init__(self, config: Any, *, near: Path | None = None) -> None:
        super().__init__(config, near=near)
        loaded = gallery.load(config.function, near=near)
        if not callable(loaded):
            raise ConfigError(f"{config.function} is a {type(loaded).__name__}", allowed="a function")
        self.function = loaded
        parameters = inspect.signature(loaded).parameters.values()
        self._names = {p.name for p in parameters}
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        return in_both_orders(contests, self._compare, workers=self.config.workers)

    def _compare(self, prompt: Prompt, first: str, second: str) -> Any:
        taken = ("prompt", "first", "second")
        columns = {k: v for k, v in prompt.columns.items() if k not in taken and (self._takes_all or k in self._names)}
        return self.function(prompt.prompt, first, second, **columns)
