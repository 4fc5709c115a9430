"""`engine policy`: the vLLM server that a config's run wants. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine import gallery
from engine.errors import EngineError

app = typer.Typer(help="Serve the policy that a training config samples from.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group, although it has one command so far."""


@app.command()
def serve(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of one that came with the engine.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as policy.vllm.port=8001.")] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print the command and start nothing.")] = False,
) -> None:
    """Serve the config's model with vLLM, so that a run can sample from it and give it its weights.

    Prints the exact command, says when the server answers, and ends it, with all its processes, on Ctrl-C.
    """
    from rl.config import load
    from rl.policies._vllm.endpoint import Endpoint
    from rl.policies._vllm.launch import OwnServer
    from rl.trainers.parts import serving_command

    path = config if config.exists() else gallery.find(config, kind="configs")
    experiment = load(path, overrides or [])
    command = serving_command(experiment)
    typer.echo(str(command))
    if print_only:
        return
    settings = experiment.config.policy.vllm
    server = OwnServer(command, settings, None, lambda line: typer.echo(line, err=True))
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
