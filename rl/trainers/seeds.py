"""Seeds derived from the run's seed and a purpose, so that nothing depends on the order of draws."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(*parts: object) -> int:
    """A number below 2^63 that is a function of the parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seeded_generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by the parts."""
    return torch.Generator().manual_seed(derived_seed(*parts))
