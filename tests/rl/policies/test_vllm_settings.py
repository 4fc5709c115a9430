"""What can be said of the vLLM policy without vLLM: its settings, its command, what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import rl
from engine.errors import ConfigError
from rl.cli import policy_app
from rl.policies._vllm.launch import server_command
from rl.policies._vllm.settings import VllmConfig
from rl.policies.vllm import deployment_of, route_of
from rl.trainers.gradient import Totals, sampler_statistics

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU other defaults hold")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://host:8000/v1", "http://"])
def test_addresses_are_checked(tiny_config: dict[str, Any], url: str):
    tiny_config["policy"]["vllm"] = {"servers": [url]}
    with pytest.raises(ConfigError, match=r"policy\.vllm\.servers"):
        rl.train(tiny_config)


def test_an_unknown_setting_is_named(tiny_config: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"sync_timeout_s"):
        rl.train(tiny_config, ["policy.vllm.sync_timeout=3"])


@needs_no_gpu
def test_the_way_of_the_weights_follows_from_the_deployment():
    served = VllmConfig(servers=("http://h:1",))
    assert deployment_of(served) == "server"
    assert route_of(served, "server", has_adapters=False) == "file"
    assert route_of(served, "server", has_adapters=True) == "lora"
    assert route_of(VllmConfig(sync="file"), "server", has_adapters=True) == "file"
    assert route_of(VllmConfig(), "colocated", has_adapters=True) == "inprocess"
    for sync, deployment in (("nccl", "server"), ("lora", "server"), ("file", "colocated")):
        with pytest.raises(ConfigError, match=f"cannot go by '{sync}'"):
            route_of(VllmConfig(sync=sync), deployment, has_adapters=False)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="servers are named"):
        deployment_of(VllmConfig(deployment="colocated", servers=("http://h:1",)))


def test_the_local_policy_samples_nothing_ahead(tiny_config: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"nothing can be sampled ahead(.|\n)*policy.engine=vllm"):
        rl.train(tiny_config, ["policy.max_staleness=1"])


def test_the_command_has_what_the_run_relies_on(tiny_model: Path):
    command = server_command(str(tiny_model), VllmConfig(port=8123, arguments=("--seed", "5")), dtype="bfloat16")
    text = str(command)
    for part in (
        "VLLM_SERVER_DEV_MODE=1",
        "--logprobs-mode processed_logprobs",
        "--generation-config vllm",
        "--worker-extension-cls rl.policies._vllm.worker.EngineExtension",
        """--weight-transfer-config '{"backend": "file"}'""",
        "--port 8123 --dtype bfloat16",
    ):
        assert part in text
    assert text.endswith("--seed 5")
    adapters = str(server_command(str(tiny_model), VllmConfig(), dtype="float32", lora_rank=12))
    assert "--enable-lora --max-lora-rank 16" in adapters
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in adapters


def test_engine_policy_serve_prints_the_command(tiny_model: Path, tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: {{name: {tiny_model}, autocast: none}}\nmethod: {{kind: grpo}}\n"
        "source: {kind: arithmetic}\nrewards: [first_line_equals]\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(policy_app, ["serve", str(config), "policy.vllm.port=8123", "--print"])
    assert done.exit_code == 0, done.output
    assert str(tiny_model) in done.stdout and "--port 8123 --dtype float32" in done.stdout


def test_what_sampler_and_trainer_differ_in_is_measured_over_the_tokens():
    """By hand: differences 0, ln 2 and a masked token; weights 1 and 2, so (1 + 2)^2 / (2 (1 + 4)) = 0.9."""
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    old, sampler = torch.tensor([[-1.0, -1.0, -9.0]]), torch.tensor([[-1.0, -1.0 - math.log(2), 0.0]])
    totals = Totals(torch.zeros(()), torch.zeros(()))
    for rows in (0, 1):  # two micro-batches are as one
        totals.add(torch.zeros(()), mask.sum(), sampler_statistics(old, sampler, mask))
        row = totals.means()
        assert row["sampler_difference"] == pytest.approx(math.log(2) / 2), rows
        assert row["sampler_difference_max"] == pytest.approx(math.log(2))
        assert row["sampler_ess"] == pytest.approx(0.9)
        assert "sampler_weight" not in row
