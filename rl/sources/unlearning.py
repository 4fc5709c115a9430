"""Sets to forget and to retain from files or datasets, in TOFU's columns."""

from __future__ import annotations

from typing import Literal

from engine.config import Config
from rl.sources._unlearning import Sets, UnlearningConfig, UnlearningSource
from rl.sources.hf import load_split
from rl.sources.jsonl import find_file, read_rows
from rl.types import Prompt


class DatasetConfig(Config):
    """A split of a dataset of the `datasets` library, as TOFU's {dataset: locuslab/TOFU, name: forget10_perturbed}."""

    dataset: str
    name: str | None = None
    split: str = "train"


class FilesConfig(UnlearningConfig):
    """Each set is a file with one JSON object a line (as TOFU's own), or a dataset.

    `forget`, `retain`: the sets. `measured_retain`: rows that are measured in place of those of `retain`, as TOFU's
    retain_perturbed, whose rows have wrong answers. `holdout`: name -> set of general knowledge. The columns are
    `question`, `answer` and, for the truth ratio, `perturbed_answer` (a list) and `paraphrased_answer` (without one the
    answer itself counts).
    Relative paths are looked up beside the config file, then in the working folder.
    """

    kind: Literal["unlearning"] = "unlearning"
    forget: str | DatasetConfig
    retain: str | DatasetConfig | None = None
    measured_retain: str | DatasetConfig | None = None
    holdout: dict[str, str | DatasetConfig] = {}


class Unlearning(UnlearningSource):
    """The sets that the config names. Raises DataError for a file, a column or a value that is not there."""

    Config = FilesConfig

    def read(self) -> Sets:
        """The rows of all sets."""
        config = self.config
        return Sets(
            forget=self._rows(config.forget, "forget"),
            retain=self._rows(config.retain, "retain"),
            holdout={name: self._rows(given, name) for name, given in config.holdout.items()},
            measured_retain=self._rows(config.measured_retain, "measured_retain"),
        )

    def _rows(self, given: str | DatasetConfig | None, name: str) -> list[Prompt]:
        if given is None:
            return []
        if isinstance(given, str):
            path = find_file(given, self.near)
            return [self.prompt(row, f"{path}:{line}", f"{name}:{line}") for line, row in read_rows(path)]
        rows = load_split(given.dataset, given.name, given.split, self.near)
        place = f"{given.dataset}[{given.name or ''}{given.split}]"
        return [self.prompt(row, f"{place} row {i}", f"{name}:{i}") for i, row in enumerate(rows)]


SOURCE = Unlearning
