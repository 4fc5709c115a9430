"""Preferences between completions: by a program, a judge, a reward model, rewards, or a ranker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from rl.preferences.base import Contest, Preference, Verdict
from rl.preferences.judge import Judge, JudgeConfig
from rl.preferences.program import Program, ProgramConfig
from rl.preferences.ranker import Ranked, RankerConfig
from rl.preferences.reward_model import RewardModel, RewardModelConfig
from rl.preferences.rewards import Rewards, RewardsConfig

__all__ = ["Contest", "Preference", "PreferenceConfig", "Verdict", "preference_of"]

_KINDS: dict[type, type[Preference]] = {
    ProgramConfig: Program,
    JudgeConfig: Judge,
    RewardModelConfig: RewardModel,
    RewardsConfig: Rewards,
    RankerConfig: Ranked,
}


def _short(value: Any) -> Any:
    """ "file.py:function" is the program of that name."""
    return {"kind": "program", "function": value} if isinstance(value, str) else value


PreferenceConfig = Annotated[
    ProgramConfig | JudgeConfig | RewardModelConfig | RewardsConfig | RankerConfig,
    Field(discriminator="kind"),
    BeforeValidator(_short),
]
"""The section of a preference: its `kind` says which; or a program's reference alone."""


def preference_of(config: Any, near: Path | None = None) -> Preference:
    """The preference of a section. near: beside which files are looked up first."""
    return _KINDS[type(config)](config, near=near)
