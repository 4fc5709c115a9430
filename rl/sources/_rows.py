"""Rows of a table as prompts: what a JSONL file and a dataset have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.errors import ConfigError
from rl.sources.base import SourceConfig, as_chat, checked_prompt, require_columns, split_off
from rl.types import Prompt


class RowsConfig(SourceConfig):
    """Which columns of a row are what.

    `prompt`: the column with the text or the chat messages. `columns`: those that rewards may read;
    all but the prompt by default. `chat`: give a text as a user's chat message, behind the message
    `system` if there is one. `held_out`: the share of the rows that is never trained on, which ones
    by `split_seed`. `evaluated`: the most prompts of a split that an evaluation measures.
    """

    prompt: str = "prompt"
    columns: list[str] | None = None
    chat: bool = False
    system: str | None = None
    held_out: float = Field(0.0, ge=0, lt=1)
    split_seed: int = 0
    evaluated: int = Field(200, ge=1)


def prompt_of(row: Mapping[str, Any], config: RowsConfig, place: str, name: str) -> Prompt:
    """The row as the prompt of that name. Raises DataError for a missing column or a prompt that is none."""
    require_columns(row, [config.prompt, *(config.columns or [])], place)
    prompt = checked_prompt(row[config.prompt], place)
    if config.chat or config.system:
        prompt = as_chat(prompt, config.system)
    kept = config.columns if config.columns is not None else [name for name in row if name != config.prompt]
    return Prompt(name, prompt, {name: row[name] for name in kept})


def train_and_held_out(
    prompts: Sequence[Prompt], config: RowsConfig, read_held_out: Callable[[], Sequence[Prompt]] | None
) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts, split by the share `held_out`, or all of them and those that read_held_out gives."""
    if read_held_out is not None:
        if config.held_out:
            raise ConfigError(
                f"source.held_out is {config.held_out}, and a held-out set of its own is named too",
                next_step="keep one of the two",
            )
        return list(prompts), list(read_held_out())
    return split_off(prompts, round(config.held_out * len(prompts)), config.split_seed)
