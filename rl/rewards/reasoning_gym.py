"""The score that a reasoning-gym task gives itself; for the source `reasoning_gym`.

Several of its scorers evaluate the answer as an expression: they run in a process of their own, which
lets plain literals and formulas through and nothing that could be a program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rl.judges import REASONING_GYM
from rl.rewards.base import Completion, column_of, first_line, text_of


def reasoning_gym(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    answer_tag: str | None = "answer",
    timeout_s: float = 5.0,
    **columns: Any,
) -> list[float | None]:
    """The task's own score of the extracted answer, usually 0 to 1; 0.0 if none came in time.

    answer_tag: the answer is what the last <answer_tag>...</answer_tag> holds; None: the first line.
    Raises EnvironmentMissing without the package.
    """
    tasks: Sequence[Mapping[str, Any]] = column_of(columns, "task", "reasoning_gym")
    pairs = zip(completions, tasks, strict=True)
    return [_score(extract(completion, answer_tag), task, timeout_s) for completion, task in pairs]


def extract(completion: Completion, answer_tag: str | None = "answer", **row: Any) -> str | None:
    """The answer in the completion; None if there is none."""
    text = text_of(completion)
    if answer_tag is None:
        return first_line(text)
    tag = re.escape(answer_tag)
    found = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return found[-1].strip() if found else None


def _score(answer: str | None, task: Mapping[str, Any], timeout_s: float) -> float | None:
    question = {"answer": answer, "index": task["index"], "task": {k: task[k] for k in ("name", "options")}}
    reply = REASONING_GYM.ask(question, timeout_s)
    return 0.0 if reply is None else reply["score"]


reasoning_gym.extract = extract  # type: ignore[attr-defined]

REWARD = reasoning_gym
