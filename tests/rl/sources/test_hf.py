"""Datasets of the datasets library, from folders and files (no hub in tests)."""

import datasets
import pytest

from engine.errors import DataError
from rl.sources.hf import HF, HFConfig


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {"question": ["a", "b", "c"], "gold": [1, 2, 3], "note": ["x", "y", "z"]}
    splits = {
        "train": datasets.Dataset.from_dict(rows),
        "test": datasets.Dataset.from_dict({"question": ["t"], "gold": [9], "note": [""]}),
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    datasets.Dataset.from_dict(rows).to_csv(tmp_path / "rows.csv")
    return tmp_path


def _source(folder, **settings):
    return HF(HFConfig(**{"dataset": "saved", "prompt": "question"} | settings), near=folder)


def test_a_saved_folder_with_splits_and_columns(saved):
    source = _source(saved, columns=["gold"], held_out_split="test", limit=2)
    assert [(p.id, p.prompt, p.columns) for p in source.train] == [
        ("train/0", "a", {"gold": 1}),
        ("train/1", "b", {"gold": 2}),
    ]
    assert [p.columns["gold"] for p in source.held_out] == [9]


@pytest.mark.parametrize("file", ["rows.parquet", "rows.csv"])
def test_data_files(saved, file):
    assert {p.prompt: p.columns["gold"] for p in _source(saved, dataset=file).train} == {"a": 1, "b": 2, "c": 3}


def test_what_is_not_there_is_named(saved):
    with pytest.raises(DataError, match=r"no split 'tset'. Did you mean 'test'(.|\n)*train, test"):
        _source(saved, split="tset")
    with pytest.raises(
        DataError, match=r"saved\[train\] row 0: no column 'gole'. Did you mean 'gold'(.|\n)*question, gold, note"
    ):
        _source(saved, columns=["gole"])
    (saved / "rows.xlsx").touch()
    with pytest.raises(DataError, match=r"unknown file ending '\.xlsx'"):
        _source(saved, dataset="rows.xlsx")
