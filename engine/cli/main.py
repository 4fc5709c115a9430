"""The `engine` command: joins the commands, and turns every error into one message and an exit code.

Exit codes: 0 done, 1 failed, 2 bad config or input, 3 environment, 4 budget spent, 75 stopped and
resumable, 130 and 143 signals.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from engine.cli import model, rank
from engine.cli.copy import copy
from engine.cli.doctor import doctor
from engine.cli.optimize import optimize
from engine.cli.plugins import COMMANDS, plugged_in
from engine.cli.report import report
from engine.cli.schema import schema
from engine.cli.validate import validate
from engine.errors import EngineError, EnvironmentMissing

__all__ = ["app", "main"]

DISTRIBUTION = "trace-engine"
EXTRAS = {
    "rl": ("torch", "transformers", "accelerate", "peft", "trl", "datasets", "safetensors", "gguf",
           "reasoning_gym", "math_verify", "tokenizers", "huggingface_hub", "numpy"),
    "vllm": ("vllm",),
    "web": ("starlette", "uvicorn", "jinja2", "markdown_it", "markupsafe", "sqlalchemy", "multipart", "choix", "scipy"),
    "postgres": ("psycopg",),
    "diffusion": ("diffusers", "sklearn", "PIL"),
    "monty": ("pydantic_monty",),
    "tracking": ("tensorboard", "wandb", "trackio"),
}  # fmt: skip

app = typer.Typer(
    name="engine",
    help="Make a Python program with language models in it better: by words, by gradients, or by human rankings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}")
    except importlib.metadata.PackageNotFoundError:
        typer.echo(f"{DISTRIBUTION} (a checkout that is not installed)")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Make a Python program with language models in it better: by words, by gradients, or by human rankings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's own); its exit code.

    With ENGINE_DEBUG=1 in the environment errors keep their traceback.
    """
    # Read when torch is loaded. Threads that wait spin without end by default, which beside another job
    # slows a training step twentyfold; this long costs nothing on an idle machine (measured).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app(args=None if argv is None else list(argv), prog_name="engine")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except EngineError as error:
        return _fail(error)
    except ModuleNotFoundError as error:
        missing = _missing_extra(error)
        if missing is None:
            raise
        return _fail(missing)
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(error: EngineError) -> int:
    if os.environ.get("ENGINE_DEBUG"):
        raise error
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return error.exit_code


def _missing_extra(error: ModuleNotFoundError) -> EnvironmentMissing | None:
    """What to install, where the module that was not found belongs to an extra; else None: that is our bug."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return EnvironmentMissing(
                f"the package '{package}' is not installed",
                next_step=f"pip install '{DISTRIBUTION}[{extra}]'",
            )
    return None


def _join() -> None:
    """Give the app its commands."""
    for command in (copy, doctor, optimize, report, schema, validate):
        app.command()(command)
    app.add_typer(model.app, name="model")
    app.add_typer(rank.app, name="rank")
    for name, point in plugged_in(COMMANDS).items():
        app.add_typer(point.load(), name=name)


_join()

if __name__ == "__main__":
    sys.exit(main())
