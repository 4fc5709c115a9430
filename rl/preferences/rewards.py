"""The config's own reward functions as a preference: the higher reward is preferred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from engine.config import Config
from engine.errors import InputError
from rl.preferences.base import Contest, Preference, Verdict


class RewardsConfig(Config):
    """`scale`: the difference of rewards that counts as odds of e (Bradley-Terry); null: any difference decides."""

    kind: Literal["rewards"] = "rewards"
    scale: float | None = Field(default=None, gt=0)


class Rewards(Preference):
    """C_ij = 1, 1/2 or 0 as r_i is above, at or below r_j; or sigmoid((r_i - r_j) / scale). Always transitive."""

    def __call__(self, contests: Sequence[Contest]) -> list[list[Verdict]]:
        """Raises InputError where no completion of any contest has a reward."""
        if not any(reward is not None for contest in contests for reward in contest.rewards):
            raise InputError(
                "method.preference compares rewards, and no completion has one",
                next_step="name reward functions under `rewards`, or another kind of preference",
            )
        return [[self._verdict(c.rewards[i], c.rewards[j]) for i, j in c.pairs] for c in contests]

    def _verdict(self, one: float | None, other: float | None) -> Verdict:
        if one is None or other is None:
            return Verdict(None, error="no reward to compare")
        if self.config.scale is None:
            return Verdict(0.5 + 0.5 * ((one > other) - (one < other)))
        return Verdict(bradley_terry((one - other) / self.config.scale))


def bradley_terry(difference: float) -> float:
    """sigmoid(difference): the chance that the one whose score is higher by that much is preferred."""
    return 0.5 + 0.5 * math.tanh(difference / 2)
