"""Random number generators and optimizer moments: out as JSON and tensors, back as they were."""

from __future__ import annotations

import json
import random

import numpy
import pytest
import torch

from engine.errors import CheckpointError
from rl.trainers.seeds import derived_seed
from rl.trainers.state import load_optimizer_state, load_rng_state, optimizer_state, rng_state


def draws() -> tuple[float, float, float, float]:
    return random.gauss(0, 1), float(numpy.random.normal()), float(torch.randn(())), float(torch.rand(()))


def test_generators_go_on_where_they_were() -> None:
    draws()
    state = json.loads(json.dumps(rng_state()))
    expected = [draws() for _ in range(3)]
    load_rng_state(state)
    assert [draws() for _ in range(3)] == expected


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_goes_on_where_it_was(kind: type) -> None:
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        options = {"fused": True, "weight_decay": 0.1} if kind is torch.optim.AdamW else {"momentum": 0.9}
        return model, kind(model.parameters(), lr=0.1, **options)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        model(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = build()
    for seed in range(3):
        step(model, optimizer, seed)
    other, resumed = build()
    other.load_state_dict(model.state_dict())
    load_optimizer_state(resumed, other, {k: v.clone() for k, v in optimizer_state(optimizer, model).items()})
    step(model, optimizer, 3)
    step(other, resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(CheckpointError, match=r"9\.weight"):
        load_optimizer_state(resumed, other, {"9.weight/exp_avg": torch.zeros(1)})


def test_seeds_depend_on_every_part() -> None:
    seeds = {derived_seed(a, b, c) for a in range(4) for b in ("x", "y") for c in range(4)}
    assert len(seeds) == 32
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(0, "rollouts", 1, 2) == derived_seed(0, "rollouts", 1, 2)
