"""Adapters: loaded as a new adapter a version, or merged into the weights and sent whole."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import rl
from engine.errors import EnvironmentMissing
from rl.policies._vllm.endpoint import Endpoint
from rl.policies._vllm.launch import OwnServer
from rl.policies._vllm.served import Served
from rl.policies._vllm.weights import named_weights
from rl.policies.local import LocalPolicy
from rl.types import Request
from tests.rl.policies.vllm.conftest import Policy, serving

pytestmark = pytest.mark.vllm

REQUESTS = [Request((5 + i, 6, 7), 2, 12, seed=i, temperature=0) for i in range(4)]


@pytest.fixture(scope="module")
def adapter_server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with serving(tiny, tmp_path_factory.mktemp("adapters") / "vllm.log", lora_rank=4) as server:
        yield server


@pytest.fixture
def adapted(base: Any) -> Any:
    torch.manual_seed(0)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, target_modules="all-linear")
    return get_peft_model(copy.deepcopy(base), settings)


def moved(model: Any, seed: int) -> None:
    """Other adapters, far from nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)


def test_adapters_are_swapped_and_computed_with(
    policy: Policy, adapter_server: OwnServer, adapted: Any, tokenizer: Any
):
    vllm = policy(adapter_server.url, model=adapted)
    assert vllm.route == "lora"
    seen = []
    for version in (1, 2, 3):
        moved(adapted, version)
        vllm.sync(adapted, version)
        found = vllm.backend.differences[adapter_server.url]
        assert max(found.own, found.cached) < 1e-3
        ours, local = vllm.generate(REQUESTS), LocalPolicy(adapted, tokenizer).generate(REQUESTS)
        seen.append([[r.completion_ids for r in group] for group in ours])
        assert seen[-1] == [[r.completion_ids for r in group] for group in local]
    assert seen[0] != seen[1] != seen[2]
    adapters = [model["id"] for model in Endpoint(adapter_server.url).models() if model.get("parent")]
    assert adapters == [vllm.backend.route.tag]


def test_adapters_side_by_side_each_sample_as_the_local_model_with_them_does(
    policy: Policy, adapter_server: OwnServer, adapted: Any, tokenizer: Any
):
    """More of them than the server computes with at once."""

    def models() -> Iterator[Any]:
        for seed in range(11, 21):
            moved(adapted, seed)
            yield adapted

    vllm, sent = policy(adapter_server.url, model=adapted), []
    vllm.sync(adapted, 1)
    transport = vllm.backend._transport.send
    vllm.backend._transport.send = lambda bodies, urls: sent.append(len(bodies)) or transport(bodies, urls)
    ours = vllm.generate_beside(REQUESTS, models(), 2)
    local = LocalPolicy(adapted, tokenizer).generate_beside(REQUESTS, models(), 2)
    said = [[[(r.completion_ids, r.weight_version) for r in group] for group in one] for one in ours]
    assert said == [[[(r.completion_ids, r.weight_version) for r in group] for group in one] for one in local]
    assert sent == [10 * len(REQUESTS)]  # all in one batch
    assert len({str(one) for one in said}) == 10
    adapters = [model["id"] for model in Endpoint(adapter_server.url).models() if model.get("parent")]
    assert vllm.backend.route.tag in adapters and not any("beside" in name for name in adapters)


def test_a_run_of_points_that_are_adapters(
    config: dict[str, Any], adapter_server: OwnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    generate = Served.generate_beside

    def counted(served: Served, requests: Any, models: Any, version: int) -> Any:
        found = generate(served, requests, models, version)
        calls.append(len(found))
        return found

    monkeypatch.setattr(Served, "generate_beside", counted)
    config["model"] |= {"lora": {"rank": 4}}
    config["method"] = {"kind": "es", "population": 6, "mu": 0.2}
    config["policy"] |= {"engine": "vllm", "vllm": {"servers": [adapter_server.url], "sync": "lora"}}
    config["trainer"] = {"steps": 3, "prompts": 2, "lr": 0.5, "save_every": 3, "eval_every": 3}
    run = rl.train(config, run_dir=tmp_path / "run", is_quiet=True)
    found = [row for row in run.metrics if "points" in row]
    assert calls == [6, 6, 6] and all(row["spread"] > 0 for row in found)


def test_an_adapter_that_the_server_lost_is_given_again(policy: Policy, adapter_server: OwnServer, adapted: Any):
    vllm = policy(adapter_server.url, model=adapted)
    moved(adapted, 4)
    vllm.sync(adapted, 1)
    before = [[r.completion_ids for r in group] for group in vllm.generate(REQUESTS)]
    Endpoint(adapter_server.url).unload_adapter(vllm.backend.route.tag, 30)
    assert [[r.completion_ids for r in group] for group in vllm.generate(REQUESTS)] == before


def test_a_server_without_adapters_is_told_at_once(policy: Policy, server: OwnServer, adapted: Any):
    with pytest.raises(EnvironmentMissing, match=r"started without --enable-lora"):
        policy(server.url, model=adapted)


def test_merged_adapters_take_the_way_of_full_weights(policy: Policy, server: OwnServer, adapted: Any, tokenizer: Any):
    vllm = policy(server.url, model=adapted, sync="file")
    moved(adapted, 5)
    vllm.sync(adapted, 1)
    ours, local = vllm.generate(REQUESTS), LocalPolicy(adapted, tokenizer).generate(REQUESTS)
    assert [[r.completion_ids for r in g] for g in ours] == [[r.completion_ids for r in g] for g in local]


def test_merged_weights_are_those_of_peft(adapted: Any):
    moved(adapted, 6)
    ours = dict(named_weights(adapted, torch.float32))
    merged = dict(copy.deepcopy(adapted).merge_and_unload().named_parameters())
    assert ours.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(ours[name], weight, msg=name)
