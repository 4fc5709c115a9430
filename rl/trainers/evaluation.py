"""Prompts to groups of scored rollouts: sampled for training, greedy for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from rl.config import PolicyConfig
from rl.policies import Policy, encode_prompt
from rl.trainers.seeds import derived_seed
from rl.types import Group, Prompt, Request


@dataclass
class Sampler:
    """Samples and scores. `score` fills the rewards of the groups that it is given."""

    policy: Policy
    tokenizer: Any
    score: Callable[[list[Group]], None]
    config: PolicyConfig
    seed: int
    prefix: tuple[int, ...] = ()
    """Token ids before every prompt."""

    def sampled(self, prompts: Sequence[Prompt], window: int, indices: Sequence[int]) -> list[Group]:
        """G rollouts of each prompt, without rewards; the seed of each is that of its window and its index in it."""
        seeds = [derived_seed(self.seed, "rollouts", window, index) for index in indices]
        requests = [self._request(p, self.config.completions, s) for p, s in zip(prompts, seeds, strict=True)]
        return self._groups(prompts, requests)

    def scored(self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int], **sampling: Any) -> list[Group]:
        """n scored rollouts of each prompt. sampling: fields of Request that differ from the config's."""
        requests = self.requests(prompts, n, seeds, **sampling)
        groups = self._groups(prompts, requests) if requests else []
        self.score(groups)
        return groups

    def requests(self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int], **sampling: Any) -> list[Request]:
        """The requests for n rollouts of each prompt."""
        return [self._request(p, n, seed, **sampling) for p, seed in zip(prompts, seeds, strict=True)]

    def greedy(self, prompts: Sequence[Prompt]) -> list[Group]:
        """One scored greedy rollout of each prompt."""
        return self.scored(prompts, 1, [0] * len(prompts), temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)

    def _request(self, prompt: Prompt, n: int, seed: int, **changes: Any) -> Request:
        sampling = self.config.model_dump(include={"max_tokens", "temperature", "top_p", "top_k", "min_p", "stop"})
        structure = self.config.structure.structure() if self.config.structure else None
        settings = sampling | {"structure": structure} | changes
        prompt_ids = encode_prompt(self.tokenizer, prompt.prompt, self.prefix)
        return Request(prompt_ids=prompt_ids, n=n, seed=seed, **settings)

    def _groups(self, prompts: Sequence[Prompt], requests: list[Request]) -> list[Group]:
        rollouts = self.policy.generate(requests)
        return [Group(p, r.prompt_ids, rows) for p, r, rows in zip(prompts, requests, rollouts, strict=True)]


def evaluation_rows(
    sampler: Sampler, splits: Mapping[str, Sequence[Prompt]], accelerator: Any
) -> dict[str, dict[str, float]]:
    """split -> {"accuracy": mean reward of the greedy completions, "n", "failed"}.

    A completion without a reward counts 0 and as failed. Every process evaluates its share.
    """
    rows = {}
    for split, prompts in splits.items():
        own = list(prompts)[accelerator.process_index :: accelerator.num_processes]
        rewards = [group.rewards[0] for group in (sampler.greedy(own) if own else [])]
        if accelerator.num_processes > 1:
            rewards = gather_object(rewards)
        known = [reward for reward in rewards if reward is not None]
        rows[split] = {
            "accuracy": math.fsum(known) / len(rewards) if rewards else 0.0,
            "n": len(rewards),
            "failed": len(rewards) - len(known),
        }
    return rows
