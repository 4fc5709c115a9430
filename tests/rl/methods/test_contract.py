"""What every on-policy method does, whichever is installed."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rl.cli import app
from rl.config import load
from rl.methods import load as load_method
from rl.methods import names
from rl.methods._diffusion import DiffusionBatch
from rl.methods._offline import Answers, OfflineBatch, OfflineMethod
from rl.methods.base import Batch, Method, MethodConfig
from rl.ops.diffusion import Schedule
from rl.types import Group, Prompt, Rollout

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(params=names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[name for name in names() if load_method(name).trainer == "online"])
def online(request: pytest.FixtureRequest) -> str:
    """A method that learns from rollouts."""
    return str(request.param)


@pytest.fixture(params=[name for name in names() if load_method(name).trainer == "offline"])
def offline(request: pytest.FixtureRequest) -> str:
    """A method that learns from given answers."""
    return str(request.param)


def configs(kind: str) -> list[Path]:
    """The ready-made configs of a method."""
    read = YAML(typ="safe")
    return [path for path in sorted(CONFIGS.glob("*.yaml")) if read.load(path).get("method", {}).get("kind") == kind]


def made(kind: str) -> Method:
    """The method as its first config sets it up."""
    experiment = load(configs(kind)[0])
    method: Method = experiment.method_class(experiment.method, seed=0, near=experiment.near)
    return method


def groups() -> list[Group]:
    """Three prompts with 4, 4 and 2 completions; the second has none without a reward, the third has only one."""
    rewards: list[list[float | None]] = [[1.0, 0.0, 0.0, None], [1.0, 1.0, 0.0, 1.0], [1.0, None]]
    found = []
    for p, row in enumerate(rewards):
        rollouts = [Rollout((5 + i, 2), (-1.0 - i / 9, -0.5), f"{i}", "stop") for i in range(len(row))]
        cell = {"cell": "solve/deduction"}  # read by methods that have cells
        found.append(
            Group(
                Prompt(str(p), "q", {"answer": "1"}),
                (4,),
                rollouts,
                rewards=row,
                answers=["1", "2", "1", None][: len(row)],
                meta=cell,
            )
        )
    for group in found:
        if hasattr(group, "ref_logprobs"):
            group.ref_logprobs = [-2.0] * len(group.rollouts)
    return found


def advantages(method: Method) -> dict[str, torch.Tensor]:
    given = method.advantages(groups())
    return given if isinstance(given, dict) else {"advantages": given}


def batch(method: Method, *, filler: float = 0.0) -> Batch:
    """All ten rows, of which every third has one token only; `filler` stands where there is none."""
    rows = [(p, g) for p, group in enumerate(groups()) for g in range(len(group.rollouts))]
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(10, 2)
    mask[::3, 1] = 0
    values = {n: torch.stack([v[p, g] for p, g in rows]).reshape(10, -1) for n, v in advantages(method).items()}
    columns = [-torch.rand(10, 2, generator=generator) for _ in range(4)]
    logprobs, old, ref, sampler = (c.masked_fill(mask == 0, filler) for c in columns)
    return Batch(
        logprobs=logprobs.requires_grad_(),
        old_logprobs=old,
        advantages=values.pop("advantages"),
        mask=mask,
        ref_logprobs=ref,
        sampler_logprobs=sampler,
        total_tokens=mask.sum(),
        total_rows=10,
        max_tokens=2,
        more=values,
    )


def test_it_says_what_it_is(name: str):
    method = load_method(name)
    module = inspect.getdoc(inspect.getmodule(method)) or ""
    assert issubclass(method, Method) and issubclass(method.Config, MethodConfig)
    assert (
        method.paper in module and method.title and method.trainer in ("online", "offline", "zeroth_order", "diffusion")
    )
    assert "Departures from the paper" in module
    assert method.Config.model_fields["kind"].default == name


def test_a_config_names_it_and_the_list_shows_it(name: str):
    assert (CONFIGS / f"{name}.yaml") in configs(name)
    shown = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"}).output
    assert any(
        line.split()[0] == name and f"arXiv:{load_method(name).paper}" in line for line in shown.splitlines() if line
    )


def test_advantages_have_a_place_for_every_completion_and_nothing_for_those_without_reward(online: str):
    values = advantages(made(online))
    assert "advantages" in values
    for value in values.values():
        assert value.shape[:2] == (3, 4) and value.ndim in (2, 3) and bool(value.isfinite().all())
        assert not value[0, 3].any() and not value[2, 1:].any()
    assert any(bool(value.any()) for value in values.values())


def test_the_loss_is_a_number_with_a_gradient_and_statistics_without(online: str):
    method = made(online)
    given = batch(method)
    loss, statistics = method.loss(given)
    (gradient,) = torch.autograd.grad(loss, given.logprobs)
    assert loss.ndim == 0 and math.isfinite(loss.item()) and bool(gradient.isfinite().all()) and bool(gradient.any())
    assert all(v.ndim == 0 and not v.requires_grad for v in statistics.values())


def test_what_stands_where_there_is_no_token_changes_nothing(online: str):
    method = made(online)
    results = []
    for filler in (0.0, -77.0):
        given = batch(method, filler=filler)
        loss, statistics = method.loss(given)
        (gradient,) = torch.autograd.grad(loss, given.logprobs)
        results.append((loss.item(), gradient * given.mask, {k: v.item() for k, v in statistics.items()}))
    assert results[0][0] == pytest.approx(results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert results[0][2] == pytest.approx(results[1][2])


def test_its_state_is_plain_and_comes_back(name: str):
    method, other = made(name), made(name)
    state: Any = json.loads(json.dumps(method.state_dict()))
    other.load_state_dict(state)
    assert json.loads(json.dumps(other.state_dict())) == state


def test_its_metrics_are_numbers(online: str):
    method = made(online)
    method.advantages(groups())
    assert all(isinstance(value, float) for value in method.metrics.values())


def offline_batches(method: OfflineMethod, *, filler: float) -> list[OfflineBatch]:
    """Four rows of every part that the method uses, of one to three tokens; `filler` stands where there is none."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(3) < torch.tensor([1, 2, 3, 3])[:, None]).float()

    def answers() -> Answers:
        columns = [-torch.rand(4, 3, generator=generator) for _ in range(3)]
        logprobs, ref, kl = (c.masked_fill(mask == 0, filler) for c in columns)
        return Answers(logprobs.requires_grad_(), mask, ref, -kl.detach().requires_grad_())

    return [OfflineBatch(part, answers(), answers() if method.needs_refusals else None, 4, 9) for part in method.uses]


def test_the_loss_on_given_answers_is_a_number_with_a_gradient_on_tokens_alone(offline: str):
    method: Any = made(offline)
    results = []
    for filler in (0.0, -77.0):
        for batch in offline_batches(method, filler=filler):
            loss, statistics = method.loss(batch)
            leaves = [batch.answers.logprobs, batch.answers.kl]
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
            gradients = [value for value in found if value is not None]
            assert loss.ndim == 0 and gradients and any(bool(value.any()) for value in gradients)
            assert all(bool(value.isfinite().all()) for value in gradients)
            assert all(not bool((value * (batch.answers.mask == 0)).any()) for value in gradients)
            assert all(v.ndim == 0 and not v.requires_grad for v in statistics.values())
            results.append([loss.item(), *(v.item() for v in statistics.values())])
    assert results[: len(results) // 2] == [pytest.approx(row) for row in results[len(results) // 2 :]]


@pytest.mark.parametrize("kind", [name for name in names() if load_method(name).trainer == "diffusion"])
def test_the_loss_on_states_is_a_number_with_a_gradient_and_the_same_for_the_same_draws(kind: str):
    method: Any = made(kind)
    weight = torch.tensor(0.3, requires_grad=True)
    alphas = torch.linspace(0.99, 0.1, 50, dtype=torch.float64)
    schedule = Schedule(alphas, (1 - alphas.square()).sqrt(), torch.arange(1, 26) * 2 - 1, 1.0, "epsilon")
    results = []
    for _ in range(2):
        batch = DiffusionBatch(
            clean=torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4),
            schedule=schedule,
            model=lambda x, times: weight * x,
            average=lambda x, times: 0.5 * x,
            unconditional=lambda x, times: 0.4 * x,
            generator=torch.Generator().manual_seed(0),
            total_rows=2,
        )
        loss, statistics = method.loss(batch)
        (gradient,) = torch.autograd.grad(loss, weight)
        assert loss.ndim == 0 and bool(gradient.isfinite()) and gradient != 0
        assert all(v.ndim == 0 and not v.requires_grad for v in statistics.values())
        results.append([loss.item(), gradient.item(), *(v.item() for v in statistics.values())])
    assert results[0] == results[1]
