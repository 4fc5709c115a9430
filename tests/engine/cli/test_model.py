from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.model import app
from engine.errors import UnknownName
from engine.llm import models


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path))


def test_list_names_every_asset_and_where_it_lies(tmp_path: Path) -> None:
    folder = models.folder_of("minilm-l6-v2")
    folder.mkdir(parents=True)
    (folder / "origin.json").write_text('{"source": "package x==1"}')
    result = CliRunner().invoke(app, ["list"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if line.startswith("│")}
    assert set(models.MODELS) <= set(lines)
    assert "package" in lines["minilm-l6-v2"] and "package" not in lines["vader-sentences"]
    assert str(tmp_path) in result.stdout


def test_pull_of_a_cached_name_prints_its_folder() -> None:
    models.folder_of("smollm2-135m").mkdir(parents=True)
    result = CliRunner().invoke(app, ["pull", "smollm2-135m"])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(models.folder_of("smollm2-135m"))


def test_pull_of_an_unknown_name_is_the_engine_s_own_error() -> None:
    result = CliRunner().invoke(app, ["pull", "smolm2-135m"])
    assert isinstance(result.exception, UnknownName)
    assert "Did you mean 'smollm2-135m'" in str(result.exception)
