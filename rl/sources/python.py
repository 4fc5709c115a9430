"""Prompts that a Python function makes: a generated task without a file of rows and without a plug-in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from engine import gallery
from engine.errors import DataError
from rl.sources._rows import RowsConfig, prompt_of, train_and_held_out
from rl.sources.base import TEXTS, ListSource
from rl.types import Prompt


class PythonConfig(RowsConfig):
    """`rows`: "path/to/file.py:function", a function without arguments that returns rows, mappings from column to
    value and the same at every call. `held_out_rows`: one for held-out rows, in place of the share `held_out`.

    The file is looked up beside the config file, in the working folder, then among the ready-made agents.
    """

    kind: Literal["python"] = "python"
    rows: str
    held_out_rows: str | None = None


class Python(ListSource):
    """The rows of a function. Raises UnknownName and InputError for the reference, DataError for the rows."""

    Config = PythonConfig
    trainers = TEXTS

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The rows as prompts, split."""
        held_out = self.config.held_out_rows
        return train_and_held_out(
            self._prompts(self.config.rows), self.config, (lambda: self._prompts(held_out)) if held_out else None
        )

    @property
    def evaluated(self) -> int:
        """As configured."""
        return int(self.config.evaluated)

    def _prompts(self, reference: str) -> list[Prompt]:
        function = gallery.load(reference, near=self.near)
        if not callable(function):
            raise DataError(f"it is a {type(function).__name__}", place=reference, allowed="a function that gives rows")
        made = function()
        rows = list(made) if isinstance(made, Iterable) else [made]
        if not all(isinstance(row, Mapping) for row in rows):
            raise DataError(f"it gave {made!r:.80}", place=reference, allowed="rows: mappings from column to value")
        name = reference.rpartition(":")[2]
        return [prompt_of(row, self.config, f"{reference} row {i}", f"{name}/{i}") for i, row in enumerate(rows)]


SOURCE = Python
