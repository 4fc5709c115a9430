"""Facts about the whole house: what is loaded when, what is exported, what is pinned."""

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import engine
import rl
from engine.cli.main import EXTRAS

ROOT = Path(__file__).parents[1]
DEFERRED = {"networkx", "openai", "cmaes"} | {package for packages in EXTRAS.values() for package in packages}
FOLDERS = ("engine", "rl", "agents", "examples", "benchmarks", "tests", "tools")
HEAVY = ("torch", "transformers", "vllm", "openai", "datasets", "trl", "peft")


def loaded_by(program: str) -> set[str]:
    """Which heavy packages a new interpreter has loaded after the program."""
    report = f"\nimport json, sys\nprint('\\n' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program + report], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


def after_command(*args: str) -> set[str]:
    return loaded_by(f"from engine.cli.main import main\nassert main({args!r}) == 0")


def modules() -> list[str]:
    found = [
        m.name for package in (engine, rl) for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [name for name in found if "gallery_data" not in name]


def test_importing_the_engine_loads_nothing_heavy() -> None:
    assert loaded_by("import engine, rl") == set()


def test_tracing_loads_nothing_heavy() -> None:
    assert loaded_by("from engine import trace, Feedback, Budget") == set()


@pytest.mark.parametrize("args", [("--help",), ("rl", "--help"), ("rl", "train", "--help"), ("schema",), ("copy",)])
def test_commands_that_only_look_load_nothing_heavy(args: tuple[str, ...]) -> None:
    assert after_command(*args) == set()


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_is_sound_and_validating_it_loads_nothing_heavy(config: Path) -> None:
    assert after_command("validate", str(config)) == set()


def test_writing_a_report_loads_nothing_heavy() -> None:
    assert loaded_by("from engine.report import write_report") == set()


def test_the_layers_hold() -> None:
    done = subprocess.run([sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
                          cwd=ROOT, capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_packages_say_what_they_export() -> None:
    """Every name in an __all__ is there, and every package whose __init__ binds something has one."""
    for name in ["engine", "rl", *modules()]:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        body = ast.parse(Path(spec.origin).read_text()).body
        exports = [n for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
        if spec.submodule_search_locations and any(isinstance(n, ast.Assign | ast.FunctionDef) for n in body):
            assert exports, f"{name} has no __all__"
        if exports:
            module = importlib.import_module(name)
            assert [n for n in module.__all__ if not hasattr(module, n)] == [], name


def test_imports_inside_functions_are_of_slow_or_optional_packages_or_the_command_lines() -> None:
    hidden = []
    for path in [path for package in (engine, rl) for path in Path(package.__path__[0]).rglob("*.py")]:
        place = path.relative_to(ROOT)
        if place.parts[:2] == ("engine", "cli") or place == Path("rl/cli.py"):
            continue
        functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
        inner = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
        hidden += [f"{place}:{n.lineno}" for n in inner if not imported(n) <= DEFERRED]
    assert hidden == []


def imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """The top-level packages of an import statement."""
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return {name.partition(".")[0] for name in names}


def test_every_package_that_is_imported_is_declared() -> None:
    """What a file imports is in pyproject.toml by itself, not by way of another package that happens to need it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    declared = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in wanted}
    providers = importlib.metadata.packages_distributions()
    undeclared = set()
    for path in [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]:
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
        for package in {name for n in nodes for name in imported(n)} - sys.stdlib_module_names - {"engine", "rl", ""}:
            names = {name.lower().replace("_", "-") for name in providers.get(package, [])}
            if names and not names & declared:
                undeclared.add(f"{package}, in {path.relative_to(ROOT)}")
    assert undeclared == set()


def test_the_lock_pins_versions_and_names_no_host_and_no_torch() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 50
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []
    assert [line for line in pins if re.match(r"(torch|triton|nvidia|cuda)", line)] == []


@pytest.mark.parametrize("script", ["check_sizes.py", "check_leftovers.py"])
def test_the_house_rules_hold(script: str) -> None:
    done = subprocess.run([sys.executable, f"tools/{script}"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
