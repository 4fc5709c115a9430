"""The gradient of a window, against one plain backward pass over all of its rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rl.methods.grpo import Grpo, GrpoConfig
from rl.trainers.gradient import Gradient
from rl.trainers.window import Window
from rl.types import Group, Prompt, Rollout

ADVANTAGES = torch.tensor(
    [[1.0, -1.0, 0.5, -0.5], [0.0, 0.0, 0.0, 0.0], [0.0, 2.0, -1.0, -1.0], [1.5, -0.5, -0.5, -0.5]]
)


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def window(updates: int = 1, minibatches: int = 1) -> Window:
    """Four prompts with four completions of 1 to 4 tokens; one of them has none."""
    random = torch.Generator().manual_seed(1)
    groups = []
    for p in range(4):
        prompt = tuple(torch.randint(3, 15, (3 + p,), generator=random).tolist())
        lengths = torch.randint(1, 5, (4,), generator=random).tolist()
        ids = [tuple(torch.randint(3, 15, (n,), generator=random).tolist()) for n in lengths]
        ids[3] = () if p == 2 else ids[3]
        rollouts = [Rollout(i, tuple(-1.0 for _ in i), "", "stop") for i in ids]
        groups.append(Group(Prompt(str(p), "1+1="), prompt, rollouts, rewards=[0.0] * 4, reward_parts={"r": [0.0] * 4}))
    return Window(0, groups, {"advantages": ADVANTAGES}, updates, minibatches)


def gradient(
    model: nn.Module, config: GrpoConfig, reference: nn.Module | None = None, rank: int = 0, of: int = 1
) -> Any:
    accelerator = SimpleNamespace(device=torch.device("cpu"), process_index=rank, num_processes=of)
    return Gradient(model, Grpo(config), accelerator, reference, None, True, 1.0, 4, 12)


def plain_logprobs(model: nn.Module, group: Group, i: int) -> Tensor:
    ids = torch.tensor([*group.prompt_ids, *group.rollouts[i].completion_ids])
    logprobs = model(ids[None]).logits[0].float().log_softmax(-1)
    at = range(len(group.prompt_ids) - 1, len(ids) - 1)
    return torch.stack([logprobs[t, ids[t + 1]] for t in at]) if len(at) else torch.zeros(0)


def expected(
    model: nn.Module, window: Window, chosen: list[int], beta: float, reference: Any = None
) -> dict[str, Tensor]:
    """Gradients of the dapo loss, written out token by token; KL term as TRL's, times the ratio of 1."""
    rows = [(g, i) for g in chosen for i in range(4)]
    tokens = sum(len(window.groups[g].rollouts[i].completion_ids) for g, i in rows)
    total = torch.zeros(())
    for g, i in rows:
        new = plain_logprobs(model, window.groups[g], i)
        ratio = (new - new.detach()).exp()
        total = total - (ratio * window.advantages["advantages"][g, i]).sum() / tokens
        if beta:
            with torch.no_grad():
                old = plain_logprobs(reference, window.groups[g], i)
            total = total + beta * (((old - new).exp() - (old - new) - 1) * ratio).sum() / tokens
    model.zero_grad()
    total.backward()
    return grads(model)


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_micro_batches_without_idle_rows_give_the_whole_gradient(tiny_model: Path, beta: float) -> None:
    model, reference = load(tiny_model), load(tiny_model)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(1.05)
    want = expected(model, window(), [0, 1, 2, 3], beta, reference)
    model.zero_grad()
    subject, whole = gradient(model, GrpoConfig(beta=beta), reference), window()
    subject.prepare_reference(whole)
    with torch.no_grad():
        sums = [[float(plain_logprobs(reference, g, i).sum()) for i in range(len(g.rollouts))] for g in whole.groups]
    assert [g.ref_logprobs for g in whole.groups] == (
        [pytest.approx(row, rel=1e-4) for row in sums] if beta else [[]] * len(sums)
    )
    totals = subject.accumulate(whole)
    same(grads(model), want)
    idle = 0 if beta else whole.tokens([1]) + len(whole.groups[2].rollouts[0].completion_ids)
    assert int(totals.tokens) == whole.tokens(range(4)) - idle


def test_a_minibatch_is_its_part_of_the_groups(tiny_model: Path) -> None:
    model = load(tiny_model)
    whole = window(updates=2, minibatches=2)
    want = [expected(model, whole, chosen, 0.0) for chosen in ([0, 1], [2, 3])]
    subject = gradient(model, GrpoConfig())
    subject.prepare(whole)
    for part in want:
        model.zero_grad()
        subject.accumulate(whole)
        whole.done += 1
        same(grads(model), part)


def test_the_shares_of_processes_add_up(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gradient, "_reduce", lambda self, totals: None)
    model = load(tiny_model)
    want = expected(model, window(), [0, 1, 2, 3], 0.0)
    model.zero_grad()
    for rank in range(2):
        gradient(model, GrpoConfig(), rank=rank, of=2).accumulate(window())  # .grad adds up by itself
    same(grads(model), want)


def test_old_logprobs_are_those_before_the_first_update(tiny_model: Path) -> None:
    model, whole = load(tiny_model), window(updates=2)
    subject = gradient(model, GrpoConfig())
    first = subject.accumulate(whole).means()
    whole.done += 1
    with torch.no_grad():
        before = plain_logprobs(model, whole.groups[0], 0)
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert whole.old_logprobs is not None
    torch.testing.assert_close(whole.old_logprobs[0, : len(before)], before, rtol=1e-4, atol=1e-5)
    second = subject.accumulate(whole).means()
    assert first["log_ratio_max"] == 0 and second["log_ratio_max"] > 0


def test_nothing_is_forwarded_where_nothing_has_signal(tiny_model: Path) -> None:
    whole = window()
    whole.advantages = {"advantages": torch.zeros(4, 4)}
    model = load(tiny_model)
    model.forward = None  # any call would raise
    totals = gradient(model, GrpoConfig()).accumulate(whole)
    assert float(totals.loss) == 0 and totals.means() == {}
    assert grads(model) == {}


def test_advantages_may_be_per_token(tiny_model: Path) -> None:
    model = load(tiny_model)
    want = expected(model, window(), [0, 1, 2, 3], 0.0)
    model.zero_grad()
    whole = window()
    whole.advantages = {"advantages": ADVANTAGES[..., None].expand(4, 4, whole.longest).clone()}
    gradient(model, GrpoConfig()).accumulate(whole)
    same(grads(model), want)


def test_groups_may_differ_in_size_and_a_completion_in_its_prompt(tiny_model: Path) -> None:
    """The gradient of two groups of one and four, one completion under a longer prompt, is that of its parts."""
    model = load(tiny_model)
    whole = window(updates=2)
    longer = (*whole.groups[0].prompt_ids, 5, 6)
    small = dataclasses.replace(whole.groups[1], rollouts=whole.groups[1].rollouts[:1], rewards=[0.0])
    rows = list(whole.groups[0].rollouts)
    rows[2] = dataclasses.replace(rows[2], prompt_ids=longer)
    whole.groups = [small, dataclasses.replace(whole.groups[0], rollouts=rows)]
    whole.advantages = {"advantages": torch.tensor([[2.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.5, -0.5]])}
    total = torch.zeros(())
    for g, i in [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)]:
        prompt = longer if (g, i) == (1, 2) else whole.groups[g].prompt_ids
        logprobs = plain_logprobs(model, dataclasses.replace(whole.groups[g], prompt_ids=prompt), i)
        total = total - (whole.advantages["advantages"][g, i] * logprobs).sum() / whole.tokens([0, 1])
    total.backward()
    want = grads(model)
    model.zero_grad()
    gradient(model, GrpoConfig()).accumulate(whole)
    same(grads(model), want)
    assert whole.old_logprobs is not None and whole.old_logprobs.shape == (5, whole.longest)


def test_further_advantages_reach_the_loss(tiny_model: Path) -> None:
    """Named advantages come as (B, 1), and a completion is trained where any of them is not 0."""
    whole = window()
    other = torch.zeros(4, 4)
    other[1, 0] = 3.0
    whole.advantages = {"advantages": ADVANTAGES, "other": other}
    subject = gradient(load(tiny_model), GrpoConfig())
    seen = []
    loss = subject.method.loss

    def noted(batch: Any) -> Any:
        seen.append((batch.advantages, batch.more["other"]))
        return loss(batch)

    subject.method.loss = noted
    subject.accumulate(whole)
    assert 3.0 in torch.cat([b for _, b in seen]) and all(a.shape == b.shape for a, b in seen)
    assert whole.signal_rows(1) == [0]
