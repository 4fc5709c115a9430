"""Sampling towards one adapter and away from another: the distribution of what is sampled, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import rl
from engine.errors import DataError, InputError
from rl.contrast import Contrast, contrast_of
from rl.policies.local import LocalPolicy
from rl.types import Request


@pytest.fixture
def model(tiny_model: Path) -> Iterator[Any]:
    """The tiny model with two adapters that say different things."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    settings = LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    model = get_peft_model(base, settings, adapter_name="good")
    model.add_adapter("bad", settings)
    yield model.eval()


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


REQUESTS = [Request((4, 13, 5), 4, 3, seed=1), Request((6, 13, 7, 14), 3, 3, seed=2)]


def test_what_is_sampled_is_the_contrast_of_whole_forward_passes(model: Any, tokenizer: Any) -> None:
    """Every log-prob against p_pos^(1+s) / p_neg^s over the plausible tokens, computed without a cache."""
    policy = Contrast(model, tokenizer, positive="good", negative="bad", strength=0.8, plausibility=0.2)
    groups, checked = policy.generate(REQUESTS), 0
    for request, rollouts in zip(REQUESTS, groups, strict=True):
        for rollout in rollouts:
            ids = torch.tensor([[*request.prompt_ids, *rollout.completion_ids]])
            sides = []
            for name in ("good", "bad"):
                model.set_adapter(name)
                with torch.no_grad():
                    sides.append(model(ids).logits[0].softmax(-1))
            for place, (token, logprob) in enumerate(zip(rollout.completion_ids, rollout.logprobs, strict=True)):
                p, q = (side[len(request.prompt_ids) - 1 + place] for side in sides)
                weights = torch.where(p >= 0.2 * p.max(), p**1.8 / q**0.8, 0.0)
                assert logprob == pytest.approx((weights[token] / weights.sum()).log().item(), abs=1e-3)
                checked += 1
    assert checked > 7


def test_without_strength_and_cut_it_is_the_positive(model: Any, tokenizer: Any) -> None:
    model.set_adapter("good")
    expected = LocalPolicy(model, tokenizer).generate(REQUESTS)
    model.set_adapter("bad")
    found = Contrast(model, tokenizer, positive="good", negative=None, strength=0, plausibility=0).generate(REQUESTS)
    assert [[r.completion_ids for r in row] for row in found] == [[r.completion_ids for r in row] for row in expected]
    assert model.active_adapter == "bad"  # as it was before


def test_unknown_adapters_and_values_are_refused(model: Any, tokenizer: Any, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"no adapter 'worse'\n.*good, bad"):
        Contrast(model, tokenizer, positive="good", negative="worse")
    with pytest.raises(InputError, match="allowed: None, or its adapters: none"):
        Contrast(AutoModelForCausalLM.from_pretrained(tiny_model), tokenizer, positive=None, negative="bad")
    with pytest.raises(InputError, match="plausibility cut is 2"):
        Contrast(model, tokenizer, positive=None, negative="bad", plausibility=2)


def test_a_run_that_rejects_low_digits_gives_a_negative(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """NPO on own samples that begin with one: they become rarer; away from that negative they become more frequent."""
    (tmp_path / "check.py").write_text(
        "def not_low(prompts, completions, completion_ids, **columns):\n"
        "    return [float(c[:1] not in tuple('0123456')) for c in completions]\n"
    )
    config = tiny_config | {
        "method": {"kind": "npo", "mode": "self_negative", "retain": "none"},
        "rewards": [f"{tmp_path}/check.py:not_low"],
    }
    config["model"] = config["model"] | {"lora": {"rank": 4}}
    config["trainer"] = config["trainer"] | {"steps": 12, "lr": 2e-2, "save_every": 12, "eval_every": 0}
    run = rl.train(config, run_dir=tmp_path / "run", is_quiet=True)
    shares = [row["rejected"] for row in run.metrics if "loss" in row]
    assert shares[-1] < shares[0] / 2
    requests = [Request((4, 13, 5), 64, 3, seed=1, stop=("\n",))]

    def low(policy: LocalPolicy) -> float:
        return sum(rollout.text[:1] in tuple("0123456") for rollout in policy.generate(requests)[0]) / 64

    away = contrast_of(run.path, strength=1.0, plausibility=0.0)
    before = low(Contrast(away.model, away.tokenizer, positive=None, negative=None, strength=0, plausibility=0))
    assert low(away) > before > low(LocalPolicy(away.model, away.tokenizer))


def test_runs_that_cannot_be_contrasted(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    run = rl.train(tiny_config, ["trainer.steps=1", "trainer.eval_every=0"], run_dir=tmp_path / "full", is_quiet=True)
    with pytest.raises(DataError, match="trained all weights"):
        contrast_of(run.path)
    with pytest.raises(DataError, match="no checkpoint"):
        contrast_of(tmp_path)
