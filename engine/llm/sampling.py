"""Choosing tokens: temperature, nucleus, and one random stream a choice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Sampling:
    """How to sample, in the names of the OpenAI API. temperature 0 takes the likeliest token."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tests = (
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("stop", all(self.stop), "texts that are not empty"),
        )
        for name, is_good, allowed in tests:
            if not is_good:
                raise InputError(f"{name} is {getattr(self, name)!r}", allowed=allowed)


def read_sampling(arguments: Mapping[str, Any]) -> Sampling:
    """The Sampling of keyword arguments. Raises InputError for an unknown name or a bad value."""
    known = list(Sampling.__dataclass_fields__)
    for name in arguments:
        if name not in known:
            raise InputError(f"no sampling argument '{name}'.{did_you_mean(name, known)}", allowed=", ".join(known))
    values = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(stop := values.get("stop"), str | Sequence):
        values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    try:
        return Sampling(**values)
    except TypeError as error:
        raise InputError(f"sampling arguments {values!r:.120}: {error}") from None


class Sampler:
    """Draws tokens for one choice from a stream of its own: (seed, index) alone decides the draws."""

    def __init__(self, sampling: Sampling, seed: int, index: int) -> None:
        digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
        self._random = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        self._temperature, self._top_p = sampling.temperature, sampling.top_p

    def pick(self, logits: torch.Tensor, allowed: torch.Tensor | None = None) -> int:
        """A token id given the logits (V,) on the CPU; allowed: the ids to choose among."""
        if allowed is not None:
            logits = logits[allowed]
        place = self._place(logits.double())
        return int(place if allowed is None else allowed[place])

    def _place(self, logits: torch.Tensor) -> int:
        if self._temperature == 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self._temperature, dim=0)
        order = torch.arange(len(probabilities))
        if self._top_p < 1:
            probabilities, order = probabilities.sort(descending=True, stable=True)
            before = probabilities.cumsum(0) - probabilities
            probabilities = probabilities * (before < self._top_p)
        cumulative = probabilities.cumsum(0)
        draw = torch.rand((), generator=self._random, dtype=torch.float64) * cumulative[-1]
        # right=True steps over tokens of probability 0, whose cumulative sum equals the draw's.
        place = torch.searchsorted(cumulative, draw, right=True).clamp(max=len(order) - 1)
        return int(order[place])
