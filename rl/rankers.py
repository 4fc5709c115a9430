"""Who ranks: the section of a ranker in a config, and the ranker that it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from engine import gallery
from engine.config import Config
from engine.errors import ConfigError, DataError
from engine.llm import resolve
from engine.ranking import FallbackRanker, FormRanker, JudgeRanker, ProgramRanker, Ranker, RecordedRanker
from engine.ranking.judge import INSTRUCTION


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


class FormRankerConfig(Config):
    """People, in the browser; a link for each is printed (engine.ranking.FormRanker). `store`: the file, or the
    database's URL, in which questions and answers are; a path is of the working folder. `votes`: how many people rank
    each question. `annotators`: who is given a link. `mode`: how they rank, null for as many as are needed. `settle_s`:
    how long an answer can be taken back. `port`: where the form is, null for 8765 or any that is free."""

    kind: Literal["form"] = "form"
    store: str = "rankings.sqlite"
    votes: int = Field(default=1, ge=1)
    annotators: list[str] = Field(default=["annotator"], min_length=1)
    mode: Literal["full", "top", "pair", "best"] | None = None
    settle_s: float = Field(default=2.0, ge=0)
    port: int | None = Field(default=None, ge=0, le=65535)


class RecordedRankerConfig(Config):
    """What was answered before, from a file of JSON lines at `path` (engine.ranking.RecordedRanker). `behind`: who is
    asked what the file does not hold, which it then holds; null: nobody."""

    kind: Literal["recorded"] = "recorded"
    path: str
    behind: Annotated[JudgeRankerConfig | FileRankerConfig | FormRankerConfig, Field(discriminator="kind")] | None = (
        None
    )


def short(value: Any) -> Any:
    """ "judge" is the kind alone, "file.py:name" the ranker of that name."""
    if not isinstance(value, str):
        return value
    return {"kind": "file", "ranker": value} if ":" in value else {"kind": value}


AnyRanker = JudgeRankerConfig | FormRankerConfig | RecordedRankerConfig | FileRankerConfig
RankerConfig = Annotated[AnyRanker, Field(discriminator="kind"), BeforeValidator(short)]
"""The section of a ranker: its `kind` says which; or the kind alone, or a file's reference alone."""


def ranker_of(
    config: Any, *, k: int | None, seed: int, deadline_s: float | None = None, near: Path | None = None
) -> Ranker:
    """The ranker of a section; it puts the k best in order, or all. near: beside which files are looked up.
    deadline_s: how long an answer is of use, as people are told.

    Raises what gallery.load raises, DataError for a recorded file that is not there and has nobody behind it, and
    EnvironmentMissing for a language model that is not there.
    """
    if isinstance(config, JudgeRankerConfig):
        instruction = INSTRUCTION if config.instruction is None else config.instruction
        llm = resolve(config.llm)
        return JudgeRanker(llm, k=k, instruction=instruction, is_balanced=config.both_orders, seed=seed)
    if isinstance(config, RecordedRankerConfig):
        behind = (
            None
            if config.behind is None
            else ranker_of(config.behind, k=k, seed=seed, deadline_s=deadline_s, near=near)
        )
        return RecordedRanker(_recorded_path(config.path, near, is_made=behind is not None), behind)
    if isinstance(config, FormRankerConfig):
        how = config.model_dump(exclude={"kind", "store"})
        return FormRanker(config.store, k=k, deadline_s=deadline_s, **how)
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


def check_fallback(config: Any) -> None:
    """Raises ValueError where on_absent, fallback and deadline_s do not go together."""
    if (config.on_absent == "fallback") != (config.fallback is not None) or (config.fallback and not config.deadline_s):
        raise ValueError("on_absent fallback, the section fallback and deadline_s go together: give all, or none")


def with_fallback(config: Any, *, k: int | None, seed: int = 0, near: Path | None = None) -> Ranker:
    """The ranker of config.ranker, which after config.deadline_s the one of config.fallback answers for, if given."""
    ranker = ranker_of(config.ranker, k=k, seed=seed, deadline_s=config.deadline_s, near=near)
    if config.fallback is None:
        return ranker
    return FallbackRanker(ranker, ranker_of(config.fallback, k=k, seed=seed, near=near), config.deadline_s)


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
