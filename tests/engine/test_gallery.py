"""Facts about references: where a file is looked up, and how a file becomes an object."""

import dataclasses
import pickle
from pathlib import Path

import pytest

from engine import gallery
from engine.errors import ConfigError, InputError, UnknownName

AGENT = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Verdict:
    """What a judge says."""
    fair: bool

def judge(text):
    return Verdict(len(text) > 3)

_private = 1
'''


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A gallery, a working folder and a config's folder, each with its own agents/judge.py."""
    folders = {name: tmp_path / name for name in ("gallery", "own", "configs_of_user")}
    for name, folder in folders.items():
        (folder / "agents").mkdir(parents=True)
        (folder / "agents" / "judge.py").write_text(f"WHOSE = {name!r}")
    (folders["gallery"] / "configs").mkdir()
    (folders["gallery"] / "configs" / "grpo.yaml").write_text("a: 1")
    (folders["gallery"] / "secret.py").write_text("")
    monkeypatch.setattr(gallery, "folder", lambda kind: folders["gallery"] / kind)
    monkeypatch.chdir(folders["own"])
    return folders


def agent(folder: Path, text: str, name: str = "judge.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_beside_the_config_comes_first_then_the_working_folder_then_the_gallery(places: dict[str, Path]) -> None:
    config = places["configs_of_user"] / "mine.yaml"
    assert gallery.load("agents/judge.py:WHOSE", near=config) == "configs_of_user"
    assert gallery.load("agents/judge.py:WHOSE", near=config.parent) == "configs_of_user"
    assert gallery.load("agents/judge.py:WHOSE") == "own"
    (places["own"] / "agents" / "judge.py").unlink()
    assert gallery.load("agents/judge.py:WHOSE") == "gallery"


@pytest.mark.parametrize("reference", ["judge", "judge.py", "agents/judge", "agents/judge.py"])
def test_an_agent_has_four_spellings(places: dict[str, Path], reference: str) -> None:
    assert gallery.find(reference) == places["own"] / "agents" / "judge.py"


@pytest.mark.parametrize("reference", ["grpo", "grpo.yaml", "configs/grpo", "configs/grpo.yaml"])
def test_so_has_a_config(places: dict[str, Path], reference: str) -> None:
    assert gallery.find(reference, kind="configs") == places["gallery"] / "configs" / "grpo.yaml"


def test_absolute_paths_and_paths_upward_are_the_users_own_business(places: dict[str, Path]) -> None:
    path = places["own"] / "agents" / "judge.py"
    assert gallery.find(path) == path
    assert gallery.find("../own/agents/judge.py") == path


@pytest.mark.parametrize(
    "reference", ["juge", "agents/juge.py", "judge.yaml", "../secret.py", "", ".", "..", "a\0b", "x" * 999]
)
def test_what_is_nowhere_is_an_unknown_name_with_the_nearest(places: dict[str, Path], reference: str) -> None:
    with pytest.raises(UnknownName) as unknown:
        gallery.find(reference)
    assert unknown.value.available == ["agents/judge.py"]


def test_the_gallery_gives_nothing_outside_of_itself(places: dict[str, Path]) -> None:
    with pytest.raises(UnknownName):
        gallery.in_gallery(Path("agents/../secret.py"), "agents")


def test_a_missing_function_is_told_with_the_nearest_and_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'judge'") as unknown:
        gallery.load(agent(tmp_path, AGENT) + ":juge")
    assert unknown.value.available == ["Verdict", "judge"]


@pytest.mark.parametrize("reference", ["agents/judge.py", "judge:", ":judge", "judge.py:a b", "judge.py:1"])
def test_what_is_not_file_and_name_is_refused(reference: str) -> None:
    with pytest.raises(InputError, match="FILE:NAME"):
        gallery.load(reference)


@pytest.mark.parametrize(
    ("text", "line"),
    [("x = 1\ndef f(:\n", 2), ("\n\nimport nothing_of_that_name\n", 3), ("def f():\n  1/0\n\nf()\n", 2)],
)
def test_a_file_that_does_not_run_is_one_message_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = agent(tmp_path, text)
    with pytest.raises(InputError, match="does not run") as refused:
        gallery.load(f"{path}:f")
    assert refused.value.place == f"{path}:{line}"


def test_an_error_of_ours_keeps_its_own_words(tmp_path: Path) -> None:
    path = agent(tmp_path, "from engine.errors import ConfigError\nraise ConfigError('own words')")
    with pytest.raises(ConfigError, match="own words"):
        gallery.load(f"{path}:f")


def test_objects_of_a_loaded_file_pickle_and_are_one_class_each_time(tmp_path: Path) -> None:
    path = agent(tmp_path, AGENT)
    judge = gallery.load(f"{path}:judge")
    verdict = judge("fair")  # type: ignore[operator]
    assert dataclasses.asdict(verdict) == {"fair": True}
    assert pickle.loads(pickle.dumps(verdict)) == verdict
    assert gallery.load(f"{path}:Verdict") is type(verdict)


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    assert gallery.load(agent(tmp_path, "X = 1") + ":X") == 1
    assert gallery.load(agent(tmp_path, "X = 1 + 1") + ":X") == 2


def test_two_files_of_one_name_are_two_modules(places: dict[str, Path]) -> None:
    first, second = (gallery.load(f"{places[name]}/agents/judge.py:WHOSE") for name in ("gallery", "own"))
    assert (first, second) == ("gallery", "own")


def test_the_checkouts_own_folders_are_the_gallery() -> None:
    for kind in gallery.SUFFIXES:
        assert gallery.folder(kind).name == kind
        assert all(gallery.in_gallery(Path(name), kind).is_file() for name in gallery.names(kind))
