"""Who ranks the candidates of a step: the `method.ranker` section, and the ranker that it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from engine import gallery
from engine.config import Config
from engine.errors import ConfigError, DataError
from engine.llm import resolve
from engine.ranking import JudgeRanker, ProgramRanker, Ranker, RecordedRanker
from engine.ranking.judge import INSTRUCTION


class ScoresConfig(Config):
    """By what was measured: the lower loss, or the higher reward, is better. `noise`: the standard deviation of normal
    noise on each measurement; as much as 1e9 ranks at random, which is a control."""

    kind: Literal["scores"] = "scores"
    noise: float = Field(default=0.0, ge=0)


class JudgeRankerConfig(Config):
    """A language model. `llm`: as openai:MODEL, http://host:port/v1#MODEL or local:NAME; null: what the environment
    names. `instruction`: what it is told to look for; null: right before complete, complete before brief.
    `both_orders`: ask again in the reversed order, and merge what was said."""

    kind: Literal["judge"] = "judge"
    llm: str | None = None
    instruction: str | None = None
    both_orders: bool = False


class FileRankerConfig(Config):
    """`ranker`: "path/to/file.py:name", an engine.ranking.Ranker, or a function of (items, question) that returns a
    score for each id."""

    kind: Literal["file"] = "file"
    ranker: str


class RecordedRankerConfig(Config):
    """What was answered before, from a file of JSON lines at `path` (engine.ranking.RecordedRanker). `behind`: who is
    asked what the file does not hold, which it then holds; null: nobody."""

    kind: Literal["recorded"] = "recorded"
    path: str
    behind: Annotated[JudgeRankerConfig | FileRankerConfig, Field(discriminator="kind")] | None = None


def _short(value: Any) -> Any:
    """ "scores" and "judge" are the kind alone, "file.py:name" the ranker of that name."""
    if not isinstance(value, str):
        return value
    return {"kind": "file", "ranker": value} if ":" in value else {"kind": value}


RankerConfig = Annotated[
    ScoresConfig | JudgeRankerConfig | RecordedRankerConfig | FileRankerConfig,
    Field(discriminator="kind"),
    BeforeValidator(_short),
]
"""The section of a ranker: its `kind` says which; or the kind alone, or a file's reference alone."""


def ranker_of(config: Any, *, k: int, seed: int, near: Path | None = None) -> Ranker:
    """The ranker of a section other than scores; it puts the k best in order. near: beside which files are looked up.

    Raises what gallery.load raises, DataError for a recorded file that is not there and has nobody behind it, and
    EnvironmentMissing for a language model that is not there.
    """
    if isinstance(config, JudgeRankerConfig):
        instruction = INSTRUCTION if config.instruction is None else config.instruction
        llm = resolve(config.llm)
        return JudgeRanker(llm, k=k, instruction=instruction, is_balanced=config.both_orders, seed=seed)
    if isinstance(config, RecordedRankerConfig):
        behind = None if config.behind is None else ranker_of(config.behind, k=k, seed=seed, near=near)
        return RecordedRanker(_recorded_path(config.path, near, is_made=behind is not None), behind)
    loaded = gallery.load(config.ranker, near=near)
    if isinstance(loaded, Ranker):
        return loaded
    if not callable(loaded) or isinstance(loaded, type):
        raise ConfigError(
            f"{config.ranker} is {'the class ' if isinstance(loaded, type) else 'a '}"
            f"{loaded.__name__ if isinstance(loaded, type) else type(loaded).__name__}",
            allowed="an engine.ranking.Ranker (an instance), or a function of (items, question)",
        )
    return ProgramRanker(loaded)


def _recorded_path(name: str, near: Path | None, *, is_made: bool) -> Path:
    """The file beside the config, else in the working folder; a file that is to be made is beside the config."""
    folders = [near if near.is_dir() else near.parent] if near else []
    tried = [folder / name for folder in [*folders, Path()]]
    found = next((path for path in tried if path.is_file()), None)
    if found is None and not is_made:
        raise DataError(
            f"there is no file of rankings '{name}' at {' or '.join(map(str, tried))}",
            next_step="correct method.ranker.path, or name who is asked first: method.ranker.behind",
        )
    return found or tried[0]
