"""1 where the completion's mathematical answer equals the right one, as the math-verify package judges.

It parses LaTeX and plain expressions with sympy, which evaluates what it parses and may take for
ever: so it runs in a process of its own and is stopped in time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rl.judges import MATH_VERIFY
from rl.rewards.base import Completion, column_of, text_of


def math_verify(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    column: str = "answer",
    timeout_s: float = 5.0,
    **columns: Any,
) -> list[float | None]:
    """1.0 where the answers are equal, 0.0 where they are not or none was found in time.

    None where the column itself cannot be read as mathematics. Raises EnvironmentMissing without
    the package.
    """
    answers = column_of(columns, column, "math_verify")
    pairs = zip(completions, answers, strict=True)
    return [_judge(str(answer), text_of(completion), timeout_s)[0] for completion, answer in pairs]


def extract(completion: Completion, column: str = "answer", timeout_s: float = 5.0, **row: Any) -> str | None:
    """The answer that was read, as sympy writes it; None if none was."""
    return _judge(str(row.get(column, "")), text_of(completion), timeout_s)[1]


@functools.lru_cache(maxsize=4096)
def _judge(answer: str, text: str, timeout_s: float) -> tuple[float | None, str | None]:
    """Score and the answer read."""
    reply = MATH_VERIFY.ask({"gold": answer, "text": text}, timeout_s)
    return (0.0, None) if reply is None else (reply["score"], reply["answer"])


math_verify.extract = extract  # type: ignore[attr-defined]

REWARD = math_verify
