"""What the trainer lends to a method while it prepares a batch. See rl.methods.base.Tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from rl.trainers.evaluation import Sampler
from rl.trainers.seeds import derived_seed
from rl.types import Group, Prompt


@dataclass
class Lent:
    """Sampling beside the batch; `window` is the batch's number, from which the seeds follow."""

    step: int
    source: Any
    sampler: Sampler
    accelerator: Any
    window: int
    calls: int = 0

    def sample(self, prompts: Sequence[Prompt], n: int, **sampling: Any) -> list[Group]:
        """A scored group of n completions of each prompt."""
        self.calls += 1
        own = range(self.accelerator.process_index, len(prompts), self.accelerator.num_processes)
        seeds = [derived_seed(self.sampler.seed, "method", self.window, self.calls, i) for i in own]
        groups = self.sampler.scored([prompts[i] for i in own], n, seeds, **sampling)
        if self.accelerator.num_processes == 1:
            return groups
        numbered = gather_object(list(zip(own, groups, strict=True)))
        return [group for _, group in sorted(numbered, key=lambda pair: pair[0])]
