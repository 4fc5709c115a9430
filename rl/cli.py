"""`engine rl`: train, eval, list; `engine policy`: serve. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from engine import gallery
from engine.errors import EngineError

app = typer.Typer(help="Train the weights of a language model.", no_args_is_help=True)
data_app = typer.Typer(help="Make data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
policy_app = typer.Typer(help="Serve the policy that a training config samples from.", no_args_is_help=True)

Overrides = Annotated[list[str] | None, typer.Argument(help="Values to change, as trainer.steps=20.")]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of one that came with the engine.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option(help="Go on with the newest run of this config, or with --run-dir.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the derived numbers, train nothing.")] = False,
    run_dir: Annotated[Path | None, typer.Option(help="The run's folder; runs/rl-DATE-TIME by default.")] = None,
) -> None:
    """Train as a config says.

    Exit codes: 0 done, 1 failed, 2 bad config or input, 3 environment, 75 stopped by a STOP file in the run
    folder, 130 and 143 by SIGINT and SIGTERM; the last three end the step and save a checkpoint first.
    """
    from rl import run

    path = _file(config)
    if dry_run:
        _print_facts(f"{path}: sound; nothing was trained", run.dry_run(path, overrides or []))
        return
    result = run.train(path, overrides or [], resume, run_dir=run_dir)
    _print_accuracy(result.evaluation, result.baseline)
    typer.echo(f"run folder: {result.path}")
    typer.echo(f"model:      {result.model_path}")
    typer.echo(f"report:     {result.path / 'report.html'}")


@app.command("eval")
def evaluate(
    target: Annotated[Path, typer.Argument(help="A config (its starting model), a run folder or a checkpoint.")],
    overrides: Overrides = None,
) -> None:
    """What the evaluation prompts of the source say: greedy accuracy, or TOFU's measures of given answers."""
    from rl import run

    _print_accuracy(run.evaluate(target if target.is_dir() else _file(target), overrides or []))


@app.command("list")
def list_methods() -> None:
    """The methods, each with its paper, and the sources and rewards."""
    from rl.methods import METHODS
    from rl.rewards import REWARDS
    from rl.sources import SOURCES

    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for title in ("method", "what it is", "paper", "loop"):
        table.add_column(title, no_wrap=title != "what it is")
    for name in METHODS.names():
        method = METHODS.load(name)
        table.add_row(name, method.title, f"arXiv:{method.paper}", method.trainer)
    terminal = Console()
    terminal.print(table)
    terminal.print(f"\nsources: {', '.join(SOURCES.names())}\nrewards: {', '.join(REWARDS.names())}", markup=False)


@data_app.callback()
def _data() -> None:
    """A group, although it has one command so far."""


@data_app.command()
def authors(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if it is not there.")],
    number: Annotated[int, typer.Option("--authors", help="How many authors are invented.")] = 20,
    forgotten: Annotated[int, typer.Option(help="Of how many of them everything is to be forgotten.")] = 2,
    questions: Annotated[int, typer.Option(help="Questions about each author.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed makes the same authors.")] = 0,
) -> None:
    """Write invented authors in TOFU's columns: forget, retain, real_authors and world_facts, each a .jsonl file.

    They are those of `source: {kind: authors}` with the same numbers; files are for other programs, and for changing.
    """
    from engine.config import Source, validate
    from rl.sources.authors import AuthorsConfig, write

    values = {"authors": number, "forgotten": forgotten, "questions": questions, "data_seed": seed}
    for path, count in write(validate(AuthorsConfig, Source("the options", values)), folder).items():
        typer.echo(f"{path}: {count} rows")


@policy_app.callback()
def _group() -> None:
    """A group, although it has one command so far."""


@policy_app.command()
def serve(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of one that came with the engine.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as policy.vllm.port=8001.")] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print the command and start nothing.")] = False,
) -> None:
    """Serve the config's model with vLLM, so that a run can sample from it and give it its weights.

    Prints the exact command, says when the server answers, and ends it, with all its processes, on Ctrl-C.
    """
    from rl import run
    from rl.policies._vllm.endpoint import Endpoint

    server = run.serving(_file(config), overrides or [], say=lambda line: typer.echo(line, err=True))
    typer.echo(str(server.command))
    if print_only:
        return
    try:
        server.start()
        server.wait(Endpoint(server.url))
        typer.echo(f"ready; train with: policy.engine=vllm policy.vllm.servers=[{server.url}]", err=True)
        if server.process is not None and server.process.wait() != 0:
            raise EngineError(f"the vLLM server ended with exit code {server.process.returncode}")
    except KeyboardInterrupt:
        typer.echo("ending the server", err=True)
    finally:
        server.stop()


def _file(config: Path) -> Path:
    """The file as given where it exists (so messages show that spelling), else from the gallery."""
    return config if config.exists() else gallery.find(config, kind="configs")


def _print_facts(title: str, facts: dict[str, str]) -> None:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 3, 0, 0))
    for name, value in facts.items():
        table.add_row(name, value)
    Console().print(table)


def _print_accuracy(evaluation: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> None:
    """One line a split: accuracy (before and after, where both are known) and the number of prompts."""
    if not evaluation:
        return
    if not all("failed" in row for row in evaluation.values()):
        _print_quantities(evaluation, baseline)
        return
    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for title in (
        "split",
        *(["before", "after"] if baseline is not None else ["greedy accuracy"]),
        "prompts",
        "failed",
    ):
        table.add_column(title, justify="left" if title == "split" else "right")
    for split, row in evaluation.items():
        before = [f"{baseline[split]['accuracy']:.3f}"] if baseline is not None else []
        table.add_row(split, *before, f"{row['accuracy']:.3f}", str(row["n"]), str(row["failed"]))
    Console().print(table)


def _print_quantities(evaluation: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> None:
    """One line a set, one column a quantity, with its value before."""
    names = dict.fromkeys(name for row in evaluation.values() for name in row if name != "n")
    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for title in ("set", *(name.replace("_", " ") for name in names)):
        table.add_column(title)
    for part, row in evaluation.items():
        before = (baseline or {}).get(part, {})
        cells = [
            (f"{before[name]:.3g} \u2192 " if name in before else "") + f"{row[name]:.3g}" if name in row else ""
            for name in names
        ]
        table.add_row(part, *cells)
    Console().print(table)
