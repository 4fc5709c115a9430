"""From a window of rollouts to a gradient: micro-batches under a token budget, and nothing for nothing.

A completion without advantage gets no forward and no backward pass; old log-probs are those of the
first update itself where that is the same; the reference is asked only where the method needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from rl.methods.base import Batch, Method
from rl.ops.layout import tree_batches
from rl.ops.tokens import completion_mask, groups_logprobs_entropy
from rl.trainers.window import Window, padded


@dataclass
class Totals:
    """Sums over the micro-batches of one update; statistics are weighted by their tokens."""

    loss: Tensor
    tokens: Tensor
    statistics: dict[str, Tensor] = field(default_factory=dict)

    def add(self, loss: Tensor, tokens: Tensor, statistics: dict[str, Tensor]) -> None:
        self.loss += loss.detach()
        self.tokens += tokens
        for name, value in statistics.items():
            value = value.detach().float()
            if name.endswith("_max"):
                self.statistics[name] = torch.maximum(self.statistics.get(name, value), value)
            else:
                self.statistics[name] = self.statistics.get(name, torch.zeros_like(value)) + value * tokens

    def merge(self, other: Totals) -> None:
        """Add another process' sums; its loss is added by the caller."""
        self.tokens += other.tokens.to(self.tokens.device)
        for name, value in other.statistics.items():
            value = value.to(self.tokens.device)
            mine = self.statistics.get(name, torch.zeros_like(value))
            self.statistics[name] = torch.maximum(mine, value) if name.endswith("_max") else mine + value

    def means(self) -> dict[str, float]:
        """Means a token and maxima. `sampler_ess`: (sum w)^2 / (n sum w^2), the share of the tokens that the
        importance weights w from the sampler to the trainer leave; 1 where both agree."""
        tokens = self.tokens.clamp(min=1.0)
        row = {k: float(v if k.endswith("_max") else v / tokens) for k, v in self.statistics.items()}
        if "sampler_weight" in row:
            mean, square = row.pop("sampler_weight"), row.pop("sampler_weight_square")
            row["sampler_ess"] = mean * mean / square if square else 0.0
        return row


@dataclass
class Gradient:
    """Fills `.grad` of the model's trained weights from a window.

    `reference`: a frozen model, or None where disabling the adapter gives it. `autocast`: the dtype of
    the forward passes, None for the weights' own. `is_sampler`: the model itself sampled, so there are no
    sampler log-probs to compare with its own. `temperature` and `max_tokens` are the sampler's. Every
    process holds the whole window and trains every `processes`-th group of it; the losses are shares
    of the whole, so gradients add up.
    """

    model: Any
    method: Method
    accelerator: Any
    reference: nn.Module | None
    autocast: torch.dtype | None
    is_sampler: bool
    temperature: float
    max_tokens: int
    micro_batch_tokens: int

    def accumulate(self, window: Window) -> Totals:
        """Backward through the next update of the window. `.grad` is None where nothing had signal."""
        device = self.accelerator.device
        totals = Totals(torch.zeros((), device=device), torch.zeros((), device=device))
        chosen = window.minibatch()
        total_tokens = torch.tensor(float(window.tokens(chosen)), device=device)
        total_rows = sum(len(window.groups[g].rollouts) for g in chosen)
        if self._records_old(window):
            window.old_logprobs = self._zeros(window)
        for rows in self._micro_batches(window, self._own(chosen)):
            logprobs, entropy, mask = self._forward(self.model, window, rows)
            advantages = self._advantages(window, rows, mask)
            batch = Batch(
                logprobs=logprobs,
                old_logprobs=self._old(window, rows, logprobs),
                advantages=advantages.pop("advantages"),
                more=advantages,
                mask=mask,
                ref_logprobs=self._known(window.ref_logprobs, rows, window, mask),
                sampler_logprobs=None if self.is_sampler else self._sampler(window, rows, mask),
                total_tokens=total_tokens,
                total_rows=total_rows,
                max_tokens=self.max_tokens,
            )
            loss, statistics = self.method.loss(batch)
            if batch.sampler_logprobs is not None:
                statistics |= sampler_statistics(batch.old_logprobs, batch.sampler_logprobs, mask)
            loss.backward()
            tokens = mask.sum()
            totals.add(loss, tokens, statistics | {"entropy": (entropy * mask).sum() / tokens})
        if self._records_old(window):
            window.old_logprobs = self._sum(window.old_logprobs)
        self._reduce(totals)
        return totals

    def prepare_reference(self, window: Window) -> None:
        """The reference's log-probs where the method needs them, and their sums for its advantages."""
        if not self.method.needs_reference:
            return
        with torch.no_grad(), self._as_reference() as reference:
            everything = self._own(range(len(window.groups)))
            window.ref_logprobs = self._sum(self._all(reference, window, everything))
        sums = iter(window.ref_logprobs.sum(1).tolist())
        for group in window.groups:
            group.ref_logprobs = [next(sums) for _ in group.rollouts]

    def prepare(self, window: Window) -> None:
        """The old log-probs, where later minibatches of the window will meet weights that have moved."""
        if window.minibatches > 1:
            with torch.no_grad():
                everything = self._own(range(len(window.groups)))
                window.old_logprobs = self._sum(self._all(self.model, window, everything))

    def _own(self, groups: Any) -> list[int]:
        """This process' share of the groups."""
        return list(groups)[self.accelerator.process_index :: self.accelerator.num_processes]

    def _micro_batches(self, window: Window, groups: list[int]) -> list[list[tuple[int, int]]]:
        """(group, completion) rows a micro-batch; without signal only where a KL term wants them."""
        rows_of = window.token_rows if self.method.needs_reference else window.signal_rows
        rows = [(g, i) for g in groups for i in rows_of(g)]
        pairs = [(window.prompt_ids(g, i), window.groups[g].rollouts[i].completion_ids) for g, i in rows]
        return [sorted(rows[n] for n in batch) for batch in tree_batches(pairs, self.micro_batch_tokens)]

    def _forward(self, model: nn.Module, window: Window, rows: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T) log-probs, entropies and mask of these rows."""
        prompts = [window.prompt_ids(g, i) for g, i in rows]
        completions = [[window.groups[g].rollouts[i].completion_ids] for g, i in rows]
        with torch.autocast(self.accelerator.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logprobs, entropy = groups_logprobs_entropy(
                model, prompts, completions, temperature=self.temperature, max_tokens=self.micro_batch_tokens
            )
        return logprobs, entropy, completion_mask(completions, logprobs.device)

    def _all(self, model: nn.Module, window: Window, groups: list[int]) -> Tensor:
        """(P*G, T) log-probs of every completion of these groups, zero elsewhere."""
        known = self._zeros(window)
        for rows in self._micro_batches(window, groups):
            logprobs, _, _ = self._forward(model, window, rows)
            known[window.row_numbers(rows), : logprobs.shape[1]] = logprobs
        return known

    def _old(self, window: Window, rows: list[tuple[int, int]], logprobs: Tensor) -> Tensor:
        """The log-probs at the start of the window's updates; those of the first update are recorded."""
        if window.updates == 1:
            return logprobs.detach()
        if self._records_old(window) and window.old_logprobs is not None:
            window.old_logprobs[window.row_numbers(rows), : logprobs.shape[1]] = logprobs.detach()
        return self._known(window.old_logprobs, rows, window, logprobs)

    @staticmethod
    def _records_old(window: Window) -> bool:
        """Whether this update's own log-probs are the old ones of the updates to come."""
        return window.updates > 1 and window.minibatches == 1 and window.done == 0

    def _zeros(self, window: Window) -> Tensor:
        """(P*G, T) zeros."""
        return torch.zeros(window.rows, window.longest, device=self.accelerator.device)

    def _sum(self, values: Any) -> Tensor:
        """The rows of all processes, on each of them."""
        return values if self.accelerator.num_processes == 1 else self.accelerator.reduce(values, reduction="sum")

    @staticmethod
    def _known(values: Tensor | None, rows: list[tuple[int, int]], window: Window, like: Tensor) -> Any:
        return None if values is None else values[window.row_numbers(rows), : like.shape[1]].to(like.device)

    @staticmethod
    def _advantages(window: Window, rows: list[tuple[int, int]], mask: Tensor) -> dict[str, Tensor]:
        """name -> (B, T) or (B, 1) advantages of the rows."""
        groups, places = (torch.tensor(numbers) for numbers in zip(*rows, strict=True))
        chosen = {name: values[groups, places].to(mask.device) for name, values in window.advantages.items()}
        return {name: v[:, : mask.shape[1]] if v.ndim == 2 else v.unsqueeze(1) for name, v in chosen.items()}

    @staticmethod
    def _sampler(window: Window, rows: list[tuple[int, int]], mask: Tensor) -> Tensor:
        values = [torch.tensor(window.groups[g].rollouts[i].logprobs) for g, i in rows]
        return padded(values, mask.shape[1]).to(mask.device)

    def _as_reference(self) -> contextlib.AbstractContextManager[nn.Module]:
        return as_reference(self.model, self.reference)

    def _reduce(self, totals: Totals) -> None:
        """Add up gradients and sums of all processes."""
        if self.accelerator.num_processes == 1:
            return
        sum_gradients(self.model, self.accelerator)
        shares: list[Totals] = gather_object([totals])
        totals.loss = torch.stack([share.loss.to(totals.loss.device) for share in shares]).sum()
        totals.tokens, totals.statistics = torch.zeros_like(totals.tokens), {}
        for share in shares:
            totals.merge(share)


@contextlib.contextmanager
def as_reference(model: Any, reference: nn.Module | None) -> Iterator[nn.Module]:
    """The reference: a model of its own, or the model itself without its adapter."""
    if reference is not None:
        yield reference
    else:
        with model.disable_adapter():
            yield model


def sum_gradients(model: nn.Module, accelerator: Any) -> None:
    """Add up the gradients of all processes; a process may have none."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(grad, reduction="sum")


def sampler_statistics(old_logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """How far the sampler's log-probs (B, T) are from the trainer's at the start of the updates: mean and max
    |difference|, and the moments of w = exp(difference), from which `Totals.means` makes the effective sample size."""
    difference = (old_logprobs - sampler_logprobs).detach().masked_fill(mask == 0, 0.0)
    weights = difference.clamp(-20, 20).exp() * mask
    tokens = mask.sum().clamp(min=1.0)
    return {
        "sampler_difference": difference.abs().sum() / tokens,
        "sampler_difference_max": difference.abs().amax(),
        "sampler_weight": weights.sum() / tokens,
        "sampler_weight_square": weights.square().sum() / tokens,
    }
