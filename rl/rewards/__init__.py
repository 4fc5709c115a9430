"""Rewards: functions of TRL's signature. Adding one means one file here that binds REWARD.

(prompts, completions, completion_ids, **columns) -> list[float | None]
"""

from __future__ import annotations

from rl.rewards._loading import REWARDS, Reward, load_reward, load_rewards, names
from rl.rewards._scoring import Scorer, score_groups

__all__ = ["REWARDS", "Reward", "Scorer", "load_reward", "load_rewards", "names", "score_groups"]
