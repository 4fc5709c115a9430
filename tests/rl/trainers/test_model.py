"""A model that a function makes: found beside the config, and refused with the reason where it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import EnvironmentMissing, InputError, UnknownName
from rl.run import dry_run
from rl.trainers.model import require_model

FILE = """
from pathlib import Path

constant = "somewhere"

def model():
    return Path({folder!r})

def nothing():
    return Path(__file__).parent
"""


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "made.py").write_text(FILE.format(folder=str(tiny_model)), encoding="utf-8")
    return tmp_path


def test_a_config_may_name_the_function_that_makes_its_model(made: Path, tiny_config: dict[str, Any]) -> None:
    by_folder = dry_run(tiny_config)
    tiny_config["model"]["name"] = f"{made}/made.py:model"
    by_function = dry_run(tiny_config)
    assert by_function["model"].partition(": ")[2] == by_folder["model"].partition(": ")[2]


def test_it_is_found_beside_the_config(made: Path, tiny_model: Path) -> None:
    assert require_model("made.py:model", made / "config.yaml") == str(tiny_model)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("made.py:modle", UnknownName, "Did you mean 'model'"),
        ("nowhere.py:model", UnknownName, "nowhere.py"),
        ("made.py:constant", InputError, "made.py:constant is a str"),
        ("made.py:nothing", EnvironmentMissing, "is no model that transformers can load"),
    ],
)
def test_what_is_none_is_refused(made: Path, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        require_model(name, made)
