"""What the trainer lends to a method while it prepares a batch. See rl.methods.base.Tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from accelerate.utils import gather_object

from rl.trainers.evaluation import Sampler
from rl.trainers.seeds import derived_seed
from rl.types import Group, Prompt

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Lent:
    """Sampling beside the batch; `window` is the batch's number, from which the seeds follow; `check`:
    raises Stopped where the run shall end."""

    step: int
    source: Any
    sampler: Sampler
    accelerator: Any
    window: int
    check: Callable[[], None]
    calls: int = 0

    def sample(self, prompts: Sequence[Prompt], n: int, **sampling: Any) -> list[Group]:
        """A scored group of n completions of each prompt."""
        self.calls += 1
        seeds = [derived_seed(self.sampler.seed, "method", self.window, self.calls, i) for i in range(len(prompts))]

        def sampled(own: Sequence[tuple[Prompt, int]]) -> list[Group]:
            return self.sampler.scored([prompt for prompt, _ in own], n, [seed for _, seed in own], **sampling)

        return self.shared(list(zip(prompts, seeds, strict=True)), sampled)

    def shared(self, items: Sequence[T], compute: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """compute(items), one result an item; of several processes each computes its share, and all get all."""
        own = range(self.accelerator.process_index, len(items), self.accelerator.num_processes)
        results = compute([items[i] for i in own])
        if self.accelerator.num_processes == 1:
            return list(results)
        numbered = gather_object(list(zip(own, results, strict=True)))
        return [result for _, result in sorted(numbered, key=lambda pair: pair[0])]
