"""The config file of `engine optimize`: its keys, its check, and what it means."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from engine import gallery, optimizers
from engine.budget import Budget
from engine.config import Config, Source, read_source, validate
from engine.errors import ConfigError, DataError, EngineError
from engine.llm.spec import resolve
from engine.optimizers.base import Optimizer
from engine.ranking import Ranker
from engine.task import Judge

__all__ = ["Experiment", "OptimizeConfig", "check", "keys", "load", "schema"]


class BudgetSection(Config):
    """See engine.Budget; null is no limit."""

    evaluations: int | None = Field(default=64, ge=0, description="candidates evaluated")
    steps: int | None = Field(default=None, ge=0)
    runs: int | None = Field(default=None, ge=0, description="program runs")
    calls: int | None = Field(default=None, ge=0, description="calls of the proposing model")
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)
    human_minutes: float | None = Field(default=None, ge=0, description="time of the people who rank")
    invalid: int = Field(default=64, ge=0, description="invalid and duplicate proposals")


class OptimizeConfig(Config):
    """References are FILE.py:NAME, looked up beside this file, in the working folder and in the gallery."""

    workflow: str = Field(description="the program, such as agents/classifier.py:classify")
    feedback: str = Field(description="the function (example, output) -> score, text or Feedback; or a Ranker")
    data: str | None = Field(default=None, description="a .jsonl file (one example a line), a list or a function")
    validation: str | float | None = Field(default=None, description="as data, or the share of the data to hold out")
    optimizer: str | dict[str, Any] = Field(default="auto", description="a name, or {kind: name, option: value}")
    llm: str | None = Field(default=None, description="openai:MODEL, http://host:port/v1#MODEL or local:NAME")
    price: tuple[float, float] | None = Field(
        default=None, description="of the model: US dollars per million tokens of prompts and of answers"
    )
    budget: BudgetSection = BudgetSection()
    batch_size: int | None = Field(default=None, ge=1)
    halving: int | None = Field(default=None, ge=2, description="eta of successive halving over a step's examples")
    allow_copies: bool = Field(default=False, description="whether values may repeat training examples word for word")
    accept: Literal["paired", "better"] = "paired"
    workers: int = Field(default=4, ge=1)
    seed: int = Field(default=0, ge=0)
    controls: list[str] = Field(default=[], description="optimizers run beside it with the same budget: random...")


@dataclass(frozen=True)
class Experiment:
    """A config with everything it names at hand: the arguments of `optimize`."""

    config: OptimizeConfig
    workflow: Callable[..., Any]
    feedback: Judge
    data: list[Any] | None
    validation: list[Any] | float | None
    optimizer: str | Optimizer
    controls: list[str]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `optimize`, all but workflow, optimizer and run_dir."""
        config = self.config
        return {
            "data": self.data,
            "feedback": self.feedback,
            "llm": config.llm if config.price is None else resolve(config.llm, price=config.price),
            "validation": self.validation,
            "budget": Budget(**config.budget.model_dump()),
            "batch_size": config.batch_size,
            "halving": config.halving,
            "allow_copies": config.allow_copies,
            "accept": config.accept,
            "workers": config.workers,
            "seed": config.seed,
        }


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment that a config file describes. Raises ConfigError and its kin with the place of the fault."""
    source = read_source(path, overrides)
    config = validate(OptimizeConfig, source)
    optimizer = _optimizer(config, source)
    for number, name in enumerate(config.controls):
        optimizers.make(name, place=source.place(("controls", number)))

    def named(key: str) -> Any:
        return _named(str(getattr(config, key)), source, (key,), path)

    workflow, feedback = named("workflow"), named("feedback")
    for key, value, allowed in (
        ("workflow", workflow, "a function"),
        ("feedback", feedback, "a function, or an engine.ranking.Ranker"),
    ):
        if not callable(value) and not (key == "feedback" and isinstance(value, Ranker)):
            raise ConfigError(f"{key} is a {type(value).__name__}", place=source.place((key,)), allowed=allowed)
    return Experiment(
        config=config,
        workflow=workflow,
        feedback=feedback,
        data=None if config.data is None else _examples(config.data, source, ("data",), path),
        validation=config.validation
        if not isinstance(config.validation, str)
        else _examples(config.validation, source, ("validation",), path),
        optimizer=optimizer,
        controls=list(config.controls),
    )


def keys() -> frozenset[str]:
    """The top-level keys of an optimize config."""
    return frozenset(OptimizeConfig.model_fields)


def check(path: Path, overrides: Sequence[str]) -> str:
    """One line that says what the config optimizes. Raises ConfigError and its kin."""
    found = load(path, overrides)
    name = found.optimizer if isinstance(found.optimizer, str) else found.optimizer.name
    examples = "no data" if found.data is None else f"{len(found.data)} examples"
    limits = ", ".join(f"{k} {v:g}" for k, v in found.config.budget.model_dump().items() if v is not None)
    return f"{name} on {found.config.workflow} with {examples}; budget: {limits}"


def schema() -> dict[str, Any]:
    """The JSON schema of an optimize config, with the options of every optimizer that is installed."""
    whole = OptimizeConfig.model_json_schema()
    choices: list[dict[str, Any]] = [{"enum": ["auto", *optimizers.names()]}]
    for name in optimizers.names():
        part = optimizers.REGISTRY.load(name).Config.model_json_schema()
        part["properties"] = {"kind": {"const": name}, **part["properties"]}
        choices.append({**part, "required": ["kind"]})
    whole["properties"]["optimizer"] = {"anyOf": choices, "default": "auto"}
    return whole


def _optimizer(config: OptimizeConfig, source: Source) -> str | Optimizer:
    """The optimizer of the config, its options checked at their places in the file."""
    spec, place = config.optimizer, source.place(("optimizer",))
    if spec == "auto":
        return "auto"
    if isinstance(spec, dict) and isinstance(spec.get("kind"), str):
        options = {key: value for key, value in spec.items() if key != "kind"}
        kind = optimizers.REGISTRY.load(spec["kind"], place=source.place(("optimizer", "kind")))
        validate(kind.Config, replace(source, data={**source.data, "optimizer": options}), ("optimizer",))
    return optimizers.make(spec, place=place)


def _named(reference: str, source: Source, key: tuple[str, ...], path: Path) -> Any:
    """What FILE.py:NAME means; its faults told at the place of the key."""
    try:
        return gallery.load(reference, near=path)
    except EngineError as error:
        message = f"{error.place}: {error.message}" if error.place else error.message
        raise ConfigError(
            message, place=source.place(key), allowed=error.allowed, next_step=error.next_step
        ) from error.__cause__


def _examples(reference: str, source: Source, key: tuple[str, ...], path: Path) -> list[Any]:
    """The examples of a JSONL file, of a list, or of a function that gives a list."""
    if reference.endswith(".jsonl"):
        return _lines(reference, source, key, path)
    found = _named(reference, source, key, path)
    found = found() if callable(found) else found
    if isinstance(found, str | bytes | dict) or not hasattr(found, "__iter__"):
        raise ConfigError(f"'{reference}' is {found!r:.80}", place=source.place(key), allowed="a list of examples")
    return list(found)


def _lines(reference: str, source: Source, key: tuple[str, ...], path: Path) -> list[Any]:
    places = [path.parent / reference, Path(reference)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(
            f"there is no file '{reference}'",
            place=source.place(key),
            allowed="a path from the config's folder or the working folder",
        )
    rows = [
        _example(line, f"{file}:{number}") for number, line in enumerate(_text(file).split("\n"), 1) if line.strip()
    ]
    if not rows:
        raise DataError("the file has no examples", place=str(file), allowed="one JSON value a line")
    return rows


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"cannot read the file: {reason}", place=str(file)) from None


def _example(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", place=place, allowed="one JSON value a line") from None
