"""What only GPUs can do: weights by NCCL to a server on another GPU, a colocated engine that sleeps.

Run by `python -m pytest tests/rl/policies/vllm/test_gpu.py -m gpu` on a machine with the GPUs that each test names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rl
from rl.policies._vllm.settings import VllmConfig
from rl.policies.vllm import VllmPolicy
from rl.types import Request
from tests.rl.policies.vllm.conftest import CONTEXT, changed, free_port

GPUS = torch.cuda.device_count()
REQUESTS = [Request((5 + i, 6, 7), 4, 12, seed=i) for i in range(8)]

pytestmark = [pytest.mark.vllm, pytest.mark.gpu]


@pytest.mark.skipif(GPUS < 2, reason="a trainer and a server: two GPUs")
@pytest.mark.parametrize("is_overlapped", [False, True])
def test_weights_go_by_nccl(base: Any, tokenizer: Any, tiny: Path, tmp_path: Path, is_overlapped: bool):
    """The probe after each push is the proof. A push again, after the model moved, gives the version of before."""
    settings = VllmConfig(deployment="server", sync="nccl", port=free_port(), context=CONTEXT)
    options: dict[str, Any] = {"settings": settings, "log": tmp_path / "vllm.log", "is_overlapped": is_overlapped}
    with VllmPolicy(base.to("cuda:0"), tokenizer, model_path=str(tiny), **options) as vllm:
        assert vllm.route == "nccl"
        for version in (1, 2):
            model = changed(base.to("cpu"), version).to("cuda:0")
            vllm.sync(model, version)
            before = [[r.completion_ids for r in group] for group in vllm.generate(REQUESTS)]
        if is_overlapped:
            with torch.no_grad():
                model.get_input_embeddings().weight.mul_(-1)
            vllm.backend.own.stop()  # as if it had died: it is started, given version 2 and asked
            assert [[r.completion_ids for r in group] for group in vllm.generate(REQUESTS)] == before


@pytest.mark.skipif(GPUS < 1, reason="one GPU")
def test_a_colocated_engine_sleeps_while_the_trainer_computes(base: Any, tokenizer: Any, tiny: Path):
    settings = VllmConfig(deployment="colocated", context=CONTEXT, memory_share=0.2)
    with VllmPolicy(base.to("cuda:0"), tokenizer, model_path=str(tiny), settings=settings) as vllm:
        asleep = torch.cuda.mem_get_info()[0]
        for version in (1, 2):
            vllm.sync(changed(base.to("cpu"), version).to("cuda:0"), version)
            assert all(r.weight_version == version for group in vllm.generate(REQUESTS) for r in group)
            assert vllm.backend.llm.llm_engine.is_sleeping()
        vllm.backend._wake()
        assert torch.cuda.mem_get_info()[0] < asleep - 2**30  # awake it holds its cache


@pytest.mark.skipif(GPUS < 1, reason="one GPU")
@pytest.mark.parametrize("deployment", ["colocated", "server"])
def test_a_run_learns(config: dict[str, Any], tmp_path: Path, deployment: str):
    if deployment == "server" and GPUS < 2:
        pytest.skip("a trainer and a server: two GPUs")
    config["model"]["autocast"] = "bfloat16"
    config["policy"]["vllm"] = {"deployment": deployment, "port": free_port(), "context": CONTEXT}
    run = rl.train(config, ["trainer.steps=25", "trainer.save_every=25"], run_dir=tmp_path / "run", is_quiet=True)
    rows = [row for row in run.metrics if "reward_mean" in row]
    assert rows[-1]["reward_mean"] > rows[0]["reward_mean"] + 0.3
    assert all(row["sampler_difference"] < 0.1 for row in rows)
