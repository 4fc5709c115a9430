"""Facts about the command line: exit codes, one clear message, and what each small command does."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from engine import gallery
from engine.cli import doctor as doctor_module
from engine.cli import main as cli
from engine.errors import BudgetSpent, ConfigError, EngineError, EnvironmentMissing, Stopped

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """engine ARGS -> exit code, standard output, standard error."""

    def command(*args: str) -> tuple[int, str, str]:
        code = cli.main(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the app one whose only command `go` raises."""

    def replace(error: BaseException) -> None:
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def go() -> None:
            raise error

        monkeypatch.setattr(cli, "app", app)

    return replace


@pytest.fixture
def small_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of agents/judge.py and configs/{judge,grpo}.yaml, and an empty working folder."""
    root = tmp_path / "gallery"
    for name in ("agents/judge.py", "configs/judge.yaml", "configs/grpo.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    monkeypatch.setattr(gallery, "folder", lambda kind: root / kind)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return root


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("it failed"), 1),
        (ConfigError("it failed", place="x.yaml:1:2", next_step="correct it"), 2),
        (EnvironmentMissing("it failed"), 3),
        (BudgetSpent("it failed"), 4),
        (Stopped("it failed"), 75),
        (KeyboardInterrupt(), 130),
        (typer.Exit(7), 7),
        (SystemExit("said"), 1),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    run: Run, raising: Callable[[BaseException], None], error: BaseException, code: int
) -> None:
    raising(error)
    got, out, err = run()
    assert got == code
    assert out == ""
    assert "Traceback" not in err
    if isinstance(error, EngineError):
        assert err == f"{type(error).__name__}: {error}\n"


def test_a_missing_package_of_an_extra_says_which_extra(run: Run, raising: Callable[[BaseException], None]) -> None:
    raising(ModuleNotFoundError("No module named 'torch.cuda'", name="torch.cuda"))
    code, _, err = run()
    assert code == 3
    assert "pip install 'trace-engine[rl]'" in err


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("no 'x'", name="x"), ZeroDivisionError(), OSError(errno.EIO, "io")]
)
def test_a_fault_of_ours_is_not_hidden(run: Run, raising: Callable[[BaseException], None], error: Exception) -> None:
    raising(error)
    with pytest.raises(type(error)):
        run()


def test_engine_debug_keeps_the_traceback(
    run: Run, raising: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_DEBUG", "1")
    raising(ConfigError("it failed"))
    with pytest.raises(ConfigError):
        run()


@pytest.mark.parametrize("args", [("nonsense",), ("validate",), ("copy", "--nonsense"), ("schema", "a", "b")])
def test_a_usage_error_is_exit_code_2(run: Run, args: tuple[str, ...]) -> None:
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "Usage" in err


def test_version_and_help_name_themselves(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("trace-engine ")
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("validate", "schema", "doctor", "copy", "rl"))


def test_copy_without_a_name_lists_the_gallery(run: Run, small_gallery: Path) -> None:
    assert run("copy") == (0, "agents/judge.py\nconfigs/grpo.yaml\nconfigs/judge.yaml\n", "")


def test_a_copy_keeps_its_reference_valid(run: Run, small_gallery: Path) -> None:
    assert run("copy", "agents/judge.py")[0] == 0
    assert gallery.find("agents/judge.py") == Path("agents/judge.py").resolve()


@pytest.mark.parametrize(
    ("destination", "written"), [("mine.yaml", "mine.yaml"), (".", "grpo.yaml"), ("new/a.yaml", "new/a.yaml")]
)
def test_copy_takes_a_file_or_a_folder(run: Run, small_gallery: Path, destination: str, written: str) -> None:
    assert run("copy", "grpo", destination)[0] == 0
    assert Path(written).read_text() == "# configs/grpo.yaml\n"


def test_copy_replaces_only_with_force(run: Run, small_gallery: Path) -> None:
    Path("a.yaml").write_text("my work")
    code, _, err = run("copy", "grpo", "a.yaml")
    assert code == 2
    assert "--force" in err
    assert Path("a.yaml").read_text() == "my work"
    assert run("copy", "grpo", "a.yaml", "--force")[0] == 0
    assert Path("a.yaml").read_text() == "# configs/grpo.yaml\n"


def test_copy_onto_itself_is_refused_even_with_force(run: Run, small_gallery: Path) -> None:
    file = small_gallery / "configs" / "grpo.yaml"
    assert run("copy", "grpo", str(file), "--force")[0] == 2
    assert file.read_text() == "# configs/grpo.yaml\n"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "agents/../../outside.py", "grpoo", ""])
def test_copy_takes_nothing_from_outside_the_gallery(run: Run, small_gallery: Path, name: str) -> None:
    (small_gallery.parent / "outside.py").write_text("")
    code, _, err = run("copy", name)
    assert code == 2
    assert "agents/judge.py, configs/grpo.yaml, configs/judge.yaml" in err


def test_a_name_that_two_kinds_have_asks_which(run: Run, small_gallery: Path) -> None:
    code, _, err = run("copy", "judge")
    assert code == 2
    assert "agents/judge.py, configs/judge.yaml" in err


def test_a_place_that_cannot_be_written_is_one_message(run: Run, small_gallery: Path) -> None:
    Path("file").write_text("")
    code, _, err = run("copy", "grpo", "file/x.yaml")
    assert code == 2
    assert "cannot write" in err


def test_doctor_says_what_is_there_and_never_a_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    code, out, err = run("doctor")
    assert code == 0
    assert "very-secret" not in out + err
    assert all(word in out for word in ("python", "torch", "smollm2-135m", "OPENAI_API_KEY", "vllm"))


def test_doctor_fails_where_something_needed_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "CORE", ("pydantic", "a-package-that-is-not-there"))
    code, out, err = run("doctor")
    assert code == 3
    assert "a-package-that-is-not-there" in err
    assert "pip install trace-engine" in out


def test_schema_is_json_for_one_kind_and_for_all(run: Run) -> None:
    one = json.loads(run("schema", "rl")[1])
    assert one["additionalProperties"] is False
    assert json.loads(run("schema")[1])["rl"] == one
    assert run("schema", "lr")[0] == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "no config"),
        ("", "no key of any kind of config"),
        ("a: [", "not valid YAML"),
        ("methd: {kind: grpo}\ntrainer: {}\n", "Did you mean 'method'?"),
    ],
)
def test_validate_refuses_with_one_message(run: Run, tmp_path: Path, text: str | None, part: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    code, out, err = run("validate", str(path))
    assert (code, out) == (2, "")
    assert part in err
    assert str(path) in err
