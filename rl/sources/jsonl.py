"""Prompts from a file with one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from engine.errors import DataError
from rl.sources._rows import RowsConfig, prompt_of, train_and_held_out
from rl.sources.base import TEXTS, ListSource, beside
from rl.types import Prompt


class JsonlConfig(RowsConfig):
    """`path`: the file. `held_out_path`: a file of held-out rows, in place of the share `held_out`.

    Relative paths are looked up beside the config file, then in the working folder.
    """

    kind: Literal["jsonl"] = "jsonl"
    path: str
    held_out_path: str | None = None


class Jsonl(ListSource):
    """The rows of a JSONL file; empty lines are skipped. Raises DataError with file:line."""

    Config = JsonlConfig
    trainers = TEXTS

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The rows as prompts, split."""
        held_out = self.config.held_out_path
        return train_and_held_out(
            self._prompts(self.config.path), self.config, (lambda: self._prompts(held_out)) if held_out else None
        )

    @property
    def evaluated(self) -> int:
        """As configured."""
        return int(self.config.evaluated)

    def _prompts(self, name: str) -> list[Prompt]:
        path = find_file(name, self.near)
        prompts = [
            prompt_of(row, self.config, f"{path}:{line}", f"{path.name}:{line}") for line, row in read_rows(path)
        ]
        if not prompts:
            raise DataError("the file has no rows", place=str(path))
        return prompts


def find_file(name: str, near: Path | None) -> Path:
    """The file of that name beside the config file, else in the working folder. Raises DataError."""
    tried = beside(name, near)
    for path in tried:
        if path.is_file():
            return path
    raise DataError(
        f"there is no file '{name}'",
        allowed="a path beside the config file, from the working folder, or absolute",
        next_step=f"looked for {', '.join(str(path.absolute()) for path in tried)}",
    )


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of every line that is not empty. Raises DataError with file:line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the file cannot be read: {error}", place=str(path)) from None
    # Not splitlines(): JSON texts may hold the other line separators of Unicode.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"not JSON at column {error.colno}: {error.msg}: {line:.80}", place=f"{path}:{number}"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"the line holds a {type(row).__name__}", place=f"{path}:{number}", allowed="a JSON object")
        yield number, row


SOURCE = Jsonl
