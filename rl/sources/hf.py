"""Prompts from a dataset of the `datasets` library: a hub id, a saved folder, or data files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from engine.errors import DataError, EnvironmentMissing, did_you_mean
from rl.sources._rows import RowsConfig, prompt_of, train_and_held_out
from rl.sources.base import TEXTS, ListSource, beside
from rl.types import Prompt

FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


class HFConfig(RowsConfig):
    """`dataset`: a hub id, a folder written by save_to_disk, or a data file. `name`: its configuration.

    `held_out_split`: the split of held-out rows, in place of the share `held_out`. `limit`: the most
    rows of a split, from its beginning.
    """

    kind: Literal["hf"] = "hf"
    dataset: str
    name: str | None = None
    split: str = "train"
    held_out_split: str | None = None
    limit: int | None = Field(None, ge=1)


class HF(ListSource):
    """The rows of a dataset. Raises DataError for a dataset, split or column that is not there."""

    Config = HFConfig
    trainers = TEXTS

    def read(self) -> tuple[list[Prompt], list[Prompt]]:
        """The rows as prompts, split."""
        held_out = self.config.held_out_split
        return train_and_held_out(
            self._prompts(self.config.split), self.config, (lambda: self._prompts(held_out)) if held_out else None
        )

    @property
    def evaluated(self) -> int:
        """As configured."""
        return int(self.config.evaluated)

    def _prompts(self, split: str) -> list[Prompt]:
        rows = load_split(self.config.dataset, self.config.name, split, self.near)
        place = f"{self.config.dataset}[{split}]"
        if self.config.limit is not None:
            rows = rows.select(range(min(self.config.limit, len(rows))))
        return [prompt_of(row, self.config, f"{place} row {i}", f"{split}/{i}") for i, row in enumerate(rows)]


def load_split(dataset: str, name: str | None, split: str, near: Path | None) -> Any:
    """The `datasets.Dataset` of that split.

    Raises EnvironmentMissing without the package or the network, DataError for all that does not exist.
    """
    try:
        import datasets
    except ImportError:
        raise EnvironmentMissing(
            "the package datasets is not installed", next_step="pip install 'trace-engine[rl]'"
        ) from None
    local = next((path for path in beside(dataset, near) if path.exists()), None)
    try:
        loaded = _load_local(datasets, local, name) if local else datasets.load_dataset(dataset, name)
    except ConnectionError as error:
        raise EnvironmentMissing(
            f"the hub cannot be reached for the dataset '{dataset}': {_first_line(error)}",
            next_step="give a folder or a file, or set HF_HUB_OFFLINE=1 to use what is in the cache",
        ) from None
    except (FileNotFoundError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"the dataset '{dataset}' cannot be loaded: {_first_line(error)}",
            allowed="a hub id, a folder written by save_to_disk, or a file: " + ", ".join(FORMATS),
        ) from None
    return _split(loaded, split, dataset)


def _load_local(datasets: Any, path: Path, name: str | None) -> Any:
    """A saved dataset, a data file, or a folder that load_dataset understands."""
    if path.is_file():
        if path.suffix not in FORMATS:
            raise ValueError(f"unknown file ending '{path.suffix}'")
        options = {"sep": "\t"} if path.suffix == ".tsv" else {}
        return datasets.load_dataset(FORMATS[path.suffix], data_files=str(path), **options)
    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        return datasets.load_from_disk(str(path))
    return datasets.load_dataset(str(path), name)


def _split(loaded: Any, split: str, dataset: str) -> Any:
    """The split of a dataset; a dataset without splits has the one "train"."""
    splits = loaded if isinstance(loaded, dict) else {"train": loaded}
    if split not in splits:
        raise DataError(
            f"the dataset '{dataset}' has no split '{split}'.{did_you_mean(split, splits)}",
            allowed=", ".join(splits),
        )
    return splits[split]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


SOURCE = HF
