"""NPO on own samples that a check rejects: by hand, against npo_loss, and as another method of the name npo."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from engine.errors import ConfigError
from rl.config import load
from rl.methods._self_negative import SelfNegative, SelfNegativeConfig
from rl.methods.base import Batch
from rl.methods.npo import Npo, npo_loss
from rl.schema import schema
from rl.types import Group, Prompt, Rollout

CONFIG: dict[str, Any] = {
    "model": {"name": "any"},
    "method": {"kind": "npo", "mode": "self_negative"},
    "source": {"kind": "arithmetic"},
    "rewards": ["length"],
}


def batch(sign: list[float], *, filler: float = 0.0) -> Batch:
    """Rows of two, two and one tokens."""
    mask = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    logprobs, ref = torch.tensor([[-1.0, -2.0], [-0.5, -1.0], [-3.0, 0.0]]), torch.full((3, 2), -1.0)
    logprobs, ref = (values.masked_fill(mask == 0, filler) for values in (logprobs, ref))
    advantages = torch.tensor(sign)[:, None]
    return Batch(logprobs.requires_grad_(), logprobs.detach(), advantages, mask, ref, None, mask.sum(), 3, 2)


def method(**settings: Any) -> SelfNegative:
    return SelfNegative(SelfNegativeConfig(**settings))


def test_the_check_decides_which_part_a_completion_is_of() -> None:
    rollouts = [Rollout((1,), (-1.0,), "", "stop")] * 4
    group = Group(Prompt("0", "q"), (4,), rollouts, rewards=[1.0, 0.0, None, 0.5])
    made = method()
    assert made.advantages([group]).tolist() == [[1, -1, 0, 1]]
    assert made.metrics == {"rejected": pytest.approx(1 / 3)}
    assert method(retain="none").advantages([group]).tolist() == [[0, -1, 0, 0]]
    assert method(threshold=0.6).advantages([group]).tolist() == [[1, -1, 0, -1]]


def test_by_hand() -> None:
    """Row 0 rejected: S - S_ref = -1. Row 1 accepted: NLL 1.5 of 5 tokens. Row 2 has no reward."""
    loss, statistics = method(beta=0.5).loss(batch([-1, 1, 0]))
    forget = (2 / 0.5) * math.log(1 + math.exp(-0.5)) / 3
    assert loss.item() == pytest.approx(forget + 1.5 / 5)
    assert statistics["forget_weight"].item() == pytest.approx(2 / (1 + math.exp(0.5)))


def test_where_all_is_rejected_it_is_npos_loss() -> None:
    rows = batch([-1, -1, -1], filler=-77.0)
    loss, _ = method().loss(rows)
    sums = torch.tensor([-3.0, -1.5, -3.0], requires_grad=True)
    expected = npo_loss(sums, torch.tensor([-2.0, -2.0, -1.0]), beta=0.1)
    assert loss.item() == pytest.approx(expected.item())
    (gradient,) = torch.autograd.grad(loss, rows.logprobs)
    (by_row,) = torch.autograd.grad(expected, sums)
    torch.testing.assert_close(gradient, by_row[:, None] * rows.mask)


def test_the_mode_chooses_the_method() -> None:
    assert load(CONFIG).method_class is SelfNegative and load(CONFIG).method.threshold == 0.5
    assert load(load(CONFIG).resolved()).method_class is SelfNegative
    unlearn = {**CONFIG, "method": {"kind": "npo", "mode": "unlearn"}, "rewards": [], "source": {"kind": "authors"}}
    assert load(unlearn).method_class is Npo
    with pytest.raises(ConfigError, match=r"unlearn.*self_negative"):
        load({**unlearn, "method": {"kind": "npo", "mode": "self_negativ"}})
    with pytest.raises(ConfigError, match="learns from rewards, and none is named"):
        load({**CONFIG, "rewards": []})
    with pytest.raises(ConfigError, match=r"for the loop offline, and method 'npo' is trained by the loop online"):
        load({**CONFIG, "source": {"kind": "authors"}})


def test_the_schema_has_both_modes() -> None:
    definitions = schema()["$defs"]
    assert "threshold" in definitions["method.npo.self_negative"]["properties"]
    assert "variant" in definitions["method.npo"]["properties"]
