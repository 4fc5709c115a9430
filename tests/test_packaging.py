"""Facts about the built wheel: what it holds, and that it lives beside openai-agents, whose import name is `agents`."""

import base64
import csv
import hashlib
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def command(*args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(a) for a in args], cwd=cwd, capture_output=True, text=True, timeout=300)


def succeed(*args: str | Path, cwd: Path) -> str:
    done = command(*args, cwd=cwd)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, and the wheel that was built from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ".", cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with openai-agents in it first, and then the wheel."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    bin_folder = next(folder for folder in (home / "bin", home / "Scripts") if folder.is_dir())
    pip = (sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "--quiet")
    succeed(*pip, "openai-agents", cwd=home)
    succeed(*pip, wheel, cwd=home)
    return bin_folder


def files_of(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_claims_engine_and_rl_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in files_of(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"engine", "rl"}


def test_agents_and_configs_travel_as_data(wheel: Path) -> None:
    ours = [path for kind in ("agents", "configs") for path in (ROOT / kind).rglob("*.*")]
    wanted = {f"engine/gallery_data/{path.relative_to(ROOT)}" for path in ours if "__pycache__" not in path.parts}
    assert wanted
    assert wanted <= files_of(wheel)


def test_the_wheel_holds_every_source_file_the_licence_and_no_leftovers(wheel: Path) -> None:
    names = files_of(wheel)
    tracked = [Path(line) for line in succeed("git", "ls-files", "engine", "rl", cwd=ROOT).splitlines()]
    assert {str(path) for path in tracked if (ROOT / path).exists()} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_sdist_holds_what_setting_up_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "Makefile",
        "requirements.lock",
        "tools/setup.sh",
        "README.md",
        "LICENSE",
        "tests/test_packaging.py",
    } <= names


@pytest.mark.network
def test_beside_openai_agents_both_are_intact(installed: Path, tmp_path: Path) -> None:
    site = succeed(
        installed / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).strip()
    [record] = Path(site).glob("openai_agents-*.dist-info/RECORD")
    checked = 0
    for name, recorded, _ in csv.reader(record.read_text().splitlines()):
        if name.startswith("agents/") and recorded:
            digest = hashlib.sha256((Path(site) / name).read_bytes()).digest()
            assert recorded == "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("="), name
            checked += 1
    assert checked > 50
    program = "import agents, engine, rl; print(agents.Agent.__module__, engine.__name__, rl.__name__)"
    assert succeed(installed / "python", "-c", program, cwd=tmp_path) == "agents.agent engine rl\n"


@pytest.mark.network
def test_the_installed_gallery_is_found_from_any_folder(installed: Path, tmp_path: Path) -> None:
    listed = succeed(installed / "engine", "copy", cwd=tmp_path).split()
    own = {f"{kind}/{path.name}" for kind in ("agents", "configs") for path in (ROOT / kind).glob("[!_]*.*")}
    assert set(listed) == {name for name in own if name.endswith((".py", ".yaml"))}
    name = listed[0]
    assert succeed(installed / "engine", "copy", name, cwd=tmp_path) == f"{name}\n"
    assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.network
def test_what_an_extra_is_missing_for_says_which(installed: Path, tmp_path: Path) -> None:
    done = command(installed / "engine", "rl", "train", "grpo.yaml", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "pip install 'trace-engine[rl]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.network
def test_the_installed_command_line_works_without_the_extras(installed: Path, tmp_path: Path) -> None:
    assert succeed(installed / "engine", "--version", cwd=tmp_path) == "trace-engine 0.1.0\n"
    assert "validate" in succeed(installed / "engine", "--help", cwd=tmp_path)
    assert ": sound. " in succeed(installed / "engine", "validate", "grpo.yaml", cwd=tmp_path)
