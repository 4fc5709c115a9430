"""What every preference is: of two completions of a prompt, which is better, and how surely.

A preference that nobody can state is data: a verdict without a value, with the reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EnvironmentMissing, InputError, LLMUnavailable
from rl.types import Prompt


@dataclass(frozen=True)
class Contest:
    """Completions of one prompt, and which of them are to be compared.

    `rewards`: what the config's reward functions gave each, None where they had no opinion. `pairs`: (i, j) by
    place among the texts.
    """

    prompt: Prompt
    texts: tuple[str, ...]
    rewards: tuple[float | None, ...]
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Verdict:
    """How far the first of two is preferred: `value` from 0 to 1, None where there is none, and why in `error`.

    `disagreement`: |difference| of the values in both orders, from 0 to 1; None where the order plays no part.
    """

    value: float | None
    disagreement: float | None = None
    error: str = ""


class Preference(ABC):
    """Decides contests. config: its section. near: beside which files are looked up first.

    `check` is to be called about once a second where somebody is waited for; it raises where nobody shall be.
    """

    def __init__(self, config: Any, *, near: Path | None = None) -> None:
        self.config, self.near = config, near
        self.check: Callable[[], None] = lambda: None

    @abstractmethod
    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        """The verdicts of each contest, one a pair, in their order."""

    def close(self) -> None:  # noqa: B027 - most preferences hold nothing
        """Let go of what the preference holds."""


Compare = Callable[[Prompt, str, str], float | None]
_Key = tuple[object, str, str]

BUGS = (TypeError, NameError, AttributeError, KeyError, ImportError, SyntaxError)
"""Exceptions that mean a mistake in the function when every call raises them."""


def in_both_orders(
    contests: Sequence[Contest], compare: Compare, *, workers: int, is_repeatable: bool = False
) -> list[list[Verdict]]:
    """Verdicts of a function of (prompt, first, second), called in both orders; the value is the mean of both.

    So a liking for a place cancels out, and C_ij + C_ji = 1. Equal texts are a tie that nobody is asked about.
    workers: calls at once. is_repeatable: the function says the same again, so the same two texts of a prompt are
    shown once. A call that raises is data; so is a pair of which one order has no value: the other alone would be
    a liking for a place. Raises InputError for a value outside of [0, 1], and where every call fails by the same
    programming error.
    """
    asked: dict[_Key, tuple[Prompt, str, str]] = {}
    rows: list[list[tuple[_Key, _Key] | None]] = [[] for _ in contests]
    for number, contest in enumerate(contests):
        for pair, (i, j) in enumerate(contest.pairs):
            one, other = contest.texts[i], contest.texts[j]
            which = contest.prompt.id if is_repeatable else (number, pair)
            keys = (which, one, other), (which, other, one)
            if one != other:
                asked |= {key: (contest.prompt, key[1], key[2]) for key in keys}
            rows[number].append(keys if one != other else None)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="preference") as pool:
        run = map if workers == 1 else pool.map
        outcomes = list(run(lambda question: _outcome(compare, *question), asked.values()))
    _refuse_bug(outcomes)
    found = dict(zip(asked, outcomes, strict=True))
    return [[_verdict(found[k[0]], found[k[1]]) if k else Verdict(0.5, 0.0) for k in row] for row in rows]


def _outcome(compare: Compare, prompt: Prompt, first: str, second: str) -> float | Exception | None:
    """The value of one call, or the exception that is data."""
    try:
        value = compare(prompt, first, second)
    except Exception as error:
        if isinstance(error, InputError | EnvironmentMissing) and not isinstance(error, LLMUnavailable):
            raise
        return error
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, str) or not 0 <= number <= 1:
        raise InputError(
            f"the preference is {value!r:.80}", allowed="a number from 0 (the second) to 1 (the first), or None"
        )
    return number


def _refuse_bug(outcomes: Sequence[float | Exception | None]) -> None:
    if outcomes and len({type(o) for o in outcomes}) == 1 and isinstance(outcomes[0], BUGS):
        raise InputError(
            f"the preference failed on every pair: {reason(outcomes[0])}",
            next_step="correct the function; ENGINE_DEBUG=1 shows the traceback",
        ) from outcomes[0]


def _verdict(first: float | Exception | None, second: float | Exception | None) -> Verdict:
    """Of the values of (one, other) and of (other, one)."""
    if isinstance(first, Exception):
        return Verdict(None, error=reason(first))
    if isinstance(second, Exception):
        return Verdict(None, error=reason(second))
    if first is None or second is None:
        return Verdict(None, error="the preference has no opinion")
    return Verdict((first + 1 - second) / 2, abs(first + second - 1))


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
