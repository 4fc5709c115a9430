"""What the zeroth-order loop measures at a point: the loss of given answers, the rewards of sampled completions, or
what a ranker is shown of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rl.methods._zeroth_order import Measured
from rl.trainers.answers import Encoder, Forward
from rl.trainers.evaluation import Sampler
from rl.trainers.seeds import derived_seed
from rl.types import Group, Prompt, Request


@dataclass
class AnswerLoss:
    """-log pi of the answers' tokens, the mean over all tokens of the batch, in nats."""

    forward: Forward
    encoder: Encoder

    def measured(self, rows: Sequence[Prompt]) -> Measured:
        """The loss as a number."""
        with torch.no_grad():
            return Measured(float(self.loss(rows)))

    def loss(self, rows: Sequence[Prompt]) -> Tensor:
        """The loss as a tensor, with whatever derivatives the model's weights carry."""
        pairs = self.encoder.answers(rows)
        return -self.forward.logprobs(pairs).double().sum() / sum(len(answer) for _, answer in pairs)


@dataclass
class SampledReward:
    """Minus the mean reward of sampled completions. Their seeds are of the step, so that points differ by their
    weights alone. NaN where no completion has a reward."""

    sampler: Sampler

    def requests(self, rows: Sequence[Prompt], step: int) -> list[Request]:
        """What is sampled at every point of the step."""
        seeds = [derived_seed(self.sampler.seed, "points", step, i) for i in range(len(rows))]
        return self.sampler.requests(rows, self.sampler.config.completions, seeds)

    def measured(self, groups: list[Group]) -> Measured:
        """Minus the mean reward, and the completions to show."""
        self._score(groups)
        known = [reward for group in groups for reward in group.rewards if reward is not None]
        loss = -math.fsum(known) / len(known) if known else math.nan
        return Measured(loss, shown(groups))

    def _score(self, groups: list[Group]) -> None:
        self.sampler.score(groups)


class Samples(SampledReward):
    """The completions alone: nothing is measured, and somebody who is shown them ranks."""

    def _score(self, groups: list[Group]) -> None:
        """Not at all."""


Objective = AnswerLoss | SampledReward


def shown(groups: Sequence[Group]) -> str:
    """Prompts with their completions, as somebody who ranks reads them."""
    parts = []
    for group in groups:
        prompt = group.prompt.prompt
        asked = prompt if isinstance(prompt, str) else "\n".join(str(message["content"]) for message in prompt)
        parts.append("\n".join([asked, *(f"-> {rollout.text}" for rollout in group.rollouts)]))
    return "\n\n".join(parts)
