"""Facts about Registry: plug-ins are found by file name or entry point, and not imported before they are used."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import EngineError, UnknownName
from engine.registry import Registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    folder = tmp_path / "garden_of_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text("raise AssertionError('base is no plug-in')")
    (folder / "_shared.py").write_text("raise AssertionError('underscore is no plug-in')")
    (folder / "rose.py").write_text("PLANT = 'a rose'")
    (folder / "thorn.py").write_text("")
    (folder / "weed.py").write_text("import package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("plant", package="garden_of_plugins", group="test.plants", attribute="PLANT")
    for name in [name for name in sys.modules if name.startswith("garden_of_plugins")]:
        del sys.modules[name]


def test_names_are_the_files_but_base_and_private_ones(package: Registry) -> None:
    assert package.names() == ["rose", "thorn", "weed"]
    assert "garden_of_plugins.rose" not in sys.modules


def test_load_gives_the_agreed_attribute(package: Registry) -> None:
    assert package.load("rose") == "a rose"


@pytest.mark.parametrize("name", ["rosé", "base", "_shared", "__init__", "rose.petal", "", "../rose"])
def test_what_is_no_plug_in_is_an_unknown_name(package: Registry, name: str) -> None:
    with pytest.raises(UnknownName, match=r"x\.yaml:1:2") as unknown:
        package.load(name, place="x.yaml:1:2")
    assert unknown.value.available == ["rose", "thorn", "weed"]


def test_a_name_that_is_taken_for_a_plug_in_gets_its_hint() -> None:
    hints = {"tulip": "a tulip is a bulb"}
    registry = Registry("plant", package="garden_of_plugins", group="test.plants", attribute="PLANT", hints=hints)
    with pytest.raises(UnknownName, match=r"next: a tulip is a bulb$"):
        registry.load("tulip")


def test_a_file_that_binds_nothing_is_told_what_to_bind(package: Registry) -> None:
    with pytest.raises(EngineError, match="PLANT"):
        package.load("thorn")


def test_a_plug_ins_own_import_error_is_not_hidden(package: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="package_that_is_not_there"):
        package.load("weed")


def test_an_entry_point_joins_and_wins(package: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    points = importlib.metadata.EntryPoints(
        [
            importlib.metadata.EntryPoint("ivy", "math:pi", "test.plants"),
            importlib.metadata.EntryPoint("rose", "math:e", "test.plants"),
        ]
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points.select(group=group))
    assert package.names() == ["ivy", "rose", "thorn", "weed"]
    assert package.load("ivy") == pytest.approx(3.14159, abs=1e-5)
    assert package.load("rose") == pytest.approx(2.71828, abs=1e-5)


def test_a_folder_that_does_not_exist_has_no_names() -> None:
    assert Registry("x", package="no_such_package_at_all", group="test.none", attribute="X").names() == []
