"""`train` and `evaluate`: from a config to a run folder, a table of accuracies and a model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from engine.errors import CheckpointError, ConfigError, DataError, Stopped
from engine.report import write_report
from engine.runs import RunFolder, read_json, read_lines, run_kind
from rl import checkpoint
from rl.config import Experiment, load
from rl.policies._vllm.launch import OwnServer
from rl.policies.vllm import serving_command
from rl.trainers.console import Console
from rl.trainers.loop import Loop
from rl.trainers.model import leave_at_exit, require_model
from rl.trainers.parts import Prepared

MAY_DIFFER = ("trainer.steps",)
"""What a resumed run may change; see _check_steps."""


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    `status`: "done", "stopped", "failed", or "running" (also of a run that was killed). `metrics`: the
    rows of metrics.jsonl. `baseline`, `evaluation`: of the first and the last evaluation, as `evaluate` gives it.
    `model_path`: the newest checkpoint, which transformers loads; None before the first.
    """

    path: Path
    status: str
    metrics: list[dict[str, Any]] = field(repr=False)
    baseline: dict[str, Any]
    evaluation: dict[str, Any]
    model_path: Path | None

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """The run in that folder. Raises DataError where there is none."""
        path = Path(path)
        run_kind(path)
        metrics = read_lines(path / "metrics.jsonl")
        evaluations = [row["eval"] for row in metrics if "eval" in row]
        saved = checkpoint.steps(path / "checkpoints")
        return cls(
            path=path,
            status=read_json(path / "status.json")["status"],
            metrics=metrics,
            baseline=evaluations[0] if evaluations else {},
            evaluation=evaluations[-1] if evaluations else {},
            model_path=saved[-1] if saved else None,
        )


def train(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    resume: bool = False,
    *,
    run_dir: str | Path | None = None,
    is_quiet: bool = False,
) -> Run:
    """Train as the config says, and return the run.

    overrides: 'trainer.steps=20'. run_dir: the run's folder, runs/rl-DATE-TIME by default. resume: go on
    from the newest sound checkpoint of run_dir, or of the newest run of the same configuration; the
    weights at the end are, bit for bit, those of a run that was never stopped.

    Raises ConfigError, UnknownName and DataError for bad input, EnvironmentMissing for a model that
    cannot be had, CheckpointError, NonFinite, and Stopped after a signal or a STOP file.
    """
    experiment = load(config, overrides)
    prepared = _loop(experiment).prepare(experiment)
    facts = prepared.facts()
    console = Console(experiment.config.trainer.steps, is_quiet=is_quiet or not prepared.accelerator.is_main_process)
    folder = _open(prepared, run_dir, resume) if prepared.accelerator.is_main_process else None
    path = Path(_from_main(str(folder.path) if folder else ""))
    console.facts(f"training into {path}", facts)
    try:
        _train_in(path, folder, prepared, console, is_resumed=resume)
    except BaseException as error:
        if folder is not None:
            status = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
            folder.finish(status, {"error": str(error) or type(error).__name__})
        raise
    else:
        if folder is not None:
            folder.finish("done", {"steps": experiment.config.trainer.steps, "evaluation": Run.read(path).evaluation})
            write_report(path)
    finally:
        if folder is not None:
            folder.close()
    prepared.accelerator.wait_for_everyone()
    leave_at_exit()
    return Run.read(path)


def evaluate(
    target: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, is_quiet: bool = False
) -> dict[str, dict[str, float]]:
    """split -> quantities, of a config's starting model, a run, or a checkpoint: greedy "accuracy", "n" and "failed";
    on the offline trainer TOFU's measures (rl.trainers.knowledge), of diffusion those of rl.trainers.negative.

    A run is evaluated at its newest sound checkpoint. Raises as `train` does, and ConfigError without rewards.
    """
    experiment, saved = _target(target, overrides)
    if experiment.measures_samples and not experiment.config.rewards:
        raise ConfigError(
            "no reward function is named, so there is nothing to measure",
            place=experiment.place("rewards"),
            next_step="name some in an override: rewards=[first_line_equals]",
        )
    prepared = _loop(experiment).prepare(experiment)
    console = Console(0, is_quiet=is_quiet)
    console.say(f"evaluating {saved or prepared.experiment.config.model.name}")
    parts = prepared.built(saved, say=console.say)
    with parts.policy:
        measured = _loop(experiment).measured(parts)
    leave_at_exit()
    return measured


def dry_run(config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, str]:
    """Everything that can go wrong before the weights are loaded; returns the derived numbers."""
    experiment = load(config, overrides)
    return _loop(experiment).prepare(experiment).facts()


def serving(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, say: Callable[[str], None]
) -> OwnServer:
    """A vLLM server, not started yet, that the config's run can sample from and give its weights to."""
    experiment = load(config, overrides)
    settings, model = experiment.config.policy.vllm, experiment.config.model
    dtype = model.autocast if model.autocast != "none" else model.dtype
    rank = model.lora.rank if model.lora else 0
    command = serving_command(require_model(model.name, experiment.near), settings, dtype=dtype, adapter_rank=rank)
    return OwnServer(command, settings, None, say)


def _open(prepared: Prepared, run_dir: str | Path | None, resume: bool) -> RunFolder:
    wanted = run_dir or prepared.experiment.config.run_dir
    config = prepared.experiment.resolved()
    return RunFolder.open(wanted, kind="rl", config=config, resume=resume, may_differ=MAY_DIFFER)


def _train_in(path: Path, folder: RunFolder | None, prepared: Prepared, console: Console, *, is_resumed: bool) -> None:
    """Build the parts, take up the newest sound checkpoint, and run the loop."""
    found = checkpoint.newest_sound(path / "checkpoints", console.warn) if is_resumed and folder else None
    saved = Path(name) if (name := _from_main(str(found or ""))) else None
    if folder is not None:
        folder.rewind(checkpoint.step_of(saved) if saved else -1)
    if is_resumed:
        console.say(f"going on from {saved}" if saved else "no checkpoint yet: starting at step 0")
    parts = prepared.built(saved, folder=path, say=console.say)
    with parts.policy:
        trainer = _loop(prepared.experiment)(parts, path, folder, console)
        if saved is not None:
            state = checkpoint.read_state(saved)
            _check_steps(prepared, state.record, saved)
            trainer.resume(state)
        trainer.run()


def _loop(experiment: Experiment) -> type[Loop]:
    """The loop that the method is for: rl/trainers/NAME.py binds TRAINER."""
    loop: type[Loop] = importlib.import_module(f"rl.trainers.{experiment.method_class.trainer}").TRAINER
    return loop


def _check_steps(prepared: Prepared, record: Mapping[str, Any], saved: Path) -> None:
    """A resumed run may be made longer, unless its learning rates depend on its length; never shorter."""
    trainer, old = prepared.experiment.config.trainer, record["config"]["trainer"]["steps"]
    is_shorter = trainer.steps < record["step"]
    if is_shorter or (trainer.steps != old and trainer.schedule != "constant"):
        raise CheckpointError(
            f"trainer.steps was {old} and is {trainer.steps}, at step {record['step']} "
            f"with trainer.schedule={trainer.schedule}",
            place=str(saved),
            allowed="more steps where the schedule is constant, else the same number",
            next_step=f"resume with trainer.steps={max(old, record['step'])}, or start a new run",
        )


def _target(target: str | Path | Mapping[str, Any], overrides: Sequence[str]) -> tuple[Experiment, Path | None]:
    """The experiment and the checkpoint to load that a config, a run or a checkpoint means."""
    if isinstance(target, Mapping) or not (path := Path(target)).is_dir():
        return load(target, overrides), None
    if path.name.startswith("step-") or (path / checkpoint.MANIFEST).exists():
        found: Path | None = checkpoint.require_sound(path)
    elif run_kind(path) != "rl":
        raise DataError("not a training run", place=str(path), next_step="give a run of `engine rl train`")
    else:
        found = checkpoint.newest_sound(path / "checkpoints", Console(0).warn)
    if found is None:
        raise DataError("the run has no checkpoint yet", place=str(path), next_step="give its config instead")
    record = checkpoint.read_state(found).record
    return load(record["config"], overrides, near=Path(record["near"]) if record["near"] else None), found


def _from_main(value: str) -> str:
    """The main process' value, on all processes."""
    values = [value]
    broadcast_object_list(values)
    return values[0]
