"""What reward functions share: TRL's signature, and how to read its two forms of a completion.

    (prompts, completions, completion_ids, **columns) -> list[float | None]

A list entry a rollout, columns repeated to that length. For text prompts a completion is a text,
for chat prompts a list with the assistant's message. None means: no opinion. Parameters with a
default are options, which a config may set beside the name; those without one are needed columns.
A function may carry `extract(completion, **row) -> str | None`, the answer that it read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import DataError, did_you_mean

Completion = str | Sequence[Mapping[str, Any]]


def text_of(completion: Completion) -> str:
    """The completion's text; of a chat the content of its messages."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message["content"]) for message in completion)


def column_of(columns: Mapping[str, Any], name: str, function: str) -> Any:
    """That column. Raises DataError naming the function and the columns that are there."""
    if name not in columns:
        raise missing_column(function, name, columns)
    return columns[name]


def missing_column(function: str, name: str, columns: Mapping[str, Any]) -> DataError:
    """The error that says which function needs which column, and which there are."""
    return DataError(
        f"the reward '{function}' needs the column '{name}', and the prompts have none of that name."
        f"{did_you_mean(name, columns)}",
        allowed=f"the columns of the source: {', '.join(sorted(columns)) or 'none'}",
        next_step="add the column to the data, or keep it in the source section",
    )


def first_line(text: str) -> str | None:
    """The first line without surrounding space; None if it is empty."""
    return text.partition("\n")[0].strip() or None
