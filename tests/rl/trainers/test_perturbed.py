"""A model that computes with shifted weights is a model that has them, and has its own again afterwards."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from rl.methods import load as load_method
from rl.methods._zeroth_order import Point
from rl.ops import perturbation
from rl.ops.perturbation import noise
from rl.trainers.directions import Directions
from rl.trainers.variables import Live, Placed, trained

IDS = torch.tensor([[3, 4, 5, 6, 3], [7, 8, 3, 3, 9]])
TERMS = ((0, 0.05), (3, -0.02))


@pytest.fixture
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def directions(kind: str = "mezo", **settings: Any) -> Directions:
    method = load_method(kind)
    return Directions(method(method.Config(**settings)), 7, torch.device("cpu"))


def by_hand(model: Any, terms: Any, step: int) -> Any:
    """A copy whose weights are x + sum c z, with whole tensors of noise."""
    other = copy.deepcopy(model)
    x = {name: p.detach() for name, p in trained(other).items()}
    for number, coefficient in terms:
        for name, drawn in noise(x, 7, step, number).items():
            x[name].add_(drawn, alpha=coefficient)
    return other


@pytest.mark.parametrize("block", [1 << 20, 100])
def test_it_computes_as_a_model_with_those_weights(model: Any, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Tied embeddings and head, norms, and matrices in one block and in many."""
    monkeypatch.setattr(perturbation, "BLOCK", block)
    variables, before = Live(model, directions()), {n: p.clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        plain, wanted = model(IDS).logits, by_hand(model, TERMS, 2)(IDS).logits
        with variables.at(Point(TERMS), 2):
            found = model(IDS).logits
        assert float((wanted - plain).abs().max()) > 0.1
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(model(IDS).logits, plain)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_layer_that_is_neither_matrix_nor_table_is_perturbed_too() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.LayerNorm(4), nn.Linear(4, 2))
    model.append(nn.Module())
    model[3].register_parameter("scale", nn.Parameter(torch.tensor(2.0)))
    model[3].forward = lambda given, module=model[3]: given * module.scale
    given = torch.randn(5, 2, 5)
    variables, plain = Live(model, directions()), model[3].forward
    with torch.no_grad():
        wanted = {name: p + 0.1 * noise(variables.x, 7, 0, 1)[name] for name, p in variables.x.items()}
        with variables.at(Point(((1, 0.1),)), 0):
            found = nn.Sequential(*model[:3])(given)
        expected = torch.func.functional_call(
            nn.Sequential(*model[:3]), {n: v for n, v in wanted.items() if n[0] != "3"}, given
        )
        torch.testing.assert_close(found, expected)
        variables.move(Point(((1, 0.1),)), 0)
    assert plain is not None and torch.equal(model[3].scale.detach(), wanted["3.scale"])


@pytest.mark.parametrize("dims", [None, 3])
def test_placed_weights_are_those_of_the_point_and_come_back(model: Any, dims: int | None) -> None:
    variables = Placed(model, directions(), dims=dims, seed=1)
    before = {n: p.clone() for n, p in model.named_parameters()}
    with variables.at(Point(((0, 0.5),)), 4):
        changed = {n: p.clone() for n, p in model.named_parameters()}
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    if dims:
        assert variables.subspace is not None
        drawn = noise({"coefficients": torch.zeros(3)}, 7, 4, 0)["coefficients"]
        wanted = variables.subspace.at(0.5 * drawn)
    else:
        wanted = dict(by_hand(model, ((0, 0.5),), 4).named_parameters())
    assert all(torch.allclose(changed[n], wanted[n], atol=1e-6) for n in changed)


def test_small_moves_are_not_lost_in_half_precision(tiny_model: Path) -> None:
    """ES at alpha 5e-4, N = 30, on bfloat16: a move of one direction is rounded away for most weights, yet a hundred of
    them move x as far as in float32, because x is a float32 copy."""
    half = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    start = {n: p.detach().clone() for n, p in half.named_parameters()}
    variables = Placed(half, directions(), dims=None, seed=0)
    variables.move(Point(((0, 5e-4 / 30),)), 0)
    kept = sum(int((p == start[n]).sum()) for n, p in half.named_parameters())
    assert kept / sum(p.numel() for p in half.parameters()) > 0.9
    for _ in range(99):
        variables.move(Point(((0, 5e-4 / 30),)), 0)
    drawn = noise({n: p.float() for n, p in start.items()}, 7, 0, 0)
    for name, tensor in variables.x.items():
        torch.testing.assert_close(tensor - start[name].float(), drawn[name] * 5e-4 / 30 * 100, atol=2e-5, rtol=0)
    moved = dict(half.named_parameters())
    assert all(torch.equal(moved[n], t.bfloat16()) for n, t in variables.x.items())


def test_along_a_direction_it_has_the_derivative_of_backpropagation(model: Any) -> None:
    from torch.autograd import forward_ad

    variables = Live(model, directions())
    model(IDS).logits.logsumexp(-1).sum().backward()
    drawn = noise(variables.x, 7, 5, 2)
    wanted = sum(float((p.grad.double() * drawn[n].double()).sum()) for n, p in model.named_parameters())
    with variables.along(2, 5):
        slope = forward_ad.unpack_dual(model(IDS).logits.logsumexp(-1).sum()).tangent
    assert slope is not None
    assert float(slope) == pytest.approx(wanted, rel=1e-4)
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
