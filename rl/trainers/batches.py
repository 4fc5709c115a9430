"""Batches of scored groups in order, sampled up to `ahead` batches before they are asked for.

The pipeline's depth is fixed, so which weights sample which batch does not depend on the clock: batch k is sampled
with the weights that trained on batch k - ahead - 1 had just made. With `ahead` 0 that is strictly on-policy.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from rl.trainers.evaluation import Sampler
from rl.trainers.window import group_from
from rl.types import Group


@dataclass
class Pending:
    """A batch that is being sampled. `cursor`: where the source stood before it."""

    number: int
    cursor: dict[str, Any]
    indices: list[int]
    groups: Future[list[Group]]


class Batches:
    """Draws prompts from the source and samples them; of several processes each samples its share.

    prompts: P. last: the number of batches of the whole run, so that none is sampled for nothing.
    """

    def __init__(self, sampler: Sampler, source: Any, accelerator: Any, *, prompts: int, ahead: int, last: int) -> None:
        self.sampler, self.source, self.accelerator = sampler, source, accelerator
        self.prompts, self.ahead, self.last = prompts, ahead, last
        self.number = 0
        self._pending: deque[Pending] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollouts") if ahead else None

    def next(self) -> list[Group]:
        """The next batch's groups, scored, those of all processes. Starts to sample those that follow.

        Raises what the policy raises; the source then stands before the batch that failed.
        """
        if not self._pending:
            self._start()
        self.settle(1)
        batch = self._pending.popleft()
        groups = batch.groups.result()
        while len(self._pending) < self.ahead and self.number < self.last:
            self._start()
        self.sampler.score(groups)
        if self.accelerator.num_processes == 1:
            return groups
        numbered = gather_object(list(zip(batch.indices, groups, strict=True)))
        return [group for _, group in sorted(numbered, key=lambda pair: pair[0])]

    def settle(self, count: int | None = None) -> None:
        """Wait for all that is being sampled, or the first `count`: weights change only between batches."""
        for place, batch in enumerate(list(self._pending)[:count]):
            try:
                batch.groups.result()
            except BaseException:
                self._drop(place)
                raise

    def close(self) -> None:
        """Let go of what was sampled for nothing."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def state_dict(self) -> list[list[dict[str, Any]]]:
        """The batches that were sampled and not yet taken, as JSON; of this process."""
        self.settle()
        return [
            [{"index": i, **dataclasses.asdict(group)} for i, group in zip(b.indices, b.groups.result(), strict=True)]
            for b in self._pending
        ]

    def load_state_dict(self, number: int, pending: list[list[dict[str, Any]]]) -> None:
        """Take up a state_dict; number: of the batch that is taken next."""
        self.number = number
        self._pending.clear()
        for rows in pending:
            groups: Future[list[Group]] = Future()
            groups.set_result([group_from({k: v for k, v in row.items() if k != "index"}) for row in rows])
            self._pending.append(Pending(self.number, self.source.state_dict(), [row["index"] for row in rows], groups))
            self.number += 1

    def _start(self) -> None:
        """Draw a batch of prompts and have it sampled: in the thread, or here where nothing is sampled ahead."""
        cursor, number = self.source.state_dict(), self.number
        drawn = list(enumerate(self.source.batch(self.prompts)))
        own = drawn[self.accelerator.process_index :: self.accelerator.num_processes]
        indices, prompts = [i for i, _ in own], [prompt for _, prompt in own]
        self.number += 1
        if self._thread is not None:
            groups = self._thread.submit(self.sampler.sampled, prompts, number, indices)
        else:
            groups = Future()
            try:
                groups.set_result(self.sampler.sampled(prompts, number, indices))
            except BaseException as error:
                groups.set_exception(error)
        self._pending.append(Pending(number, cursor, indices, groups))

    def _drop(self, place: int) -> None:
        """Forget a batch that failed and those behind it, so that a resumed run samples them again."""
        failed = self._pending[place]
        for batch in list(self._pending)[place:]:
            batch.groups.cancel()
            self._pending.remove(batch)
        self.number = failed.number
        self.source.load_state_dict(failed.cursor)
