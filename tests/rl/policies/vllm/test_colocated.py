"""vLLM in the trainer's own process. In a process of its own here: vLLM sets up much that others should not meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm

PROGRAM = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from rl.policies._vllm.settings import VllmConfig
from rl.policies.local import LocalPolicy
from rl.policies.vllm import VllmPolicy
from rl.types import Request
from tests.rl.policies.vllm.conftest import changed

if __name__ == "__main__":
    path, answer = sys.argv[1:]
    base = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path)
    requests = [Request((5 + i, 6, 7), 2, 12, seed=i, temperature=0) for i in range(3)]
    requests += [Request((5 + i, 6, 7), 3, 12, seed=i) for i in range(3)] + [Request((7,) * 400, 2, 8, 0)]
    settings = VllmConfig(deployment="colocated", context=320)
    rows = []
    with VllmPolicy(base, tokenizer, model_path=path, settings=settings) as vllm:
        for version in (1, 2):
            model = changed(base, version)
            vllm.sync(model, version)
            ours, local = vllm.generate(requests), LocalPolicy(model, tokenizer).generate(requests)
            found = vllm.backend.differences["colocated"]
            rows.append({
                "own": found.own, "cached": found.cached,
                "ours": [[r.completion_ids for r in g] for g in ours[:3]],
                "local": [[r.completion_ids for r in g] for g in local[:3]],
                "distinct": [len({r.completion_ids for r in g}) for g in ours[3:6]],
                "errors": [r.error for r in ours[6]],
                "versions": sorted({r.weight_version for g in ours for r in g}),
            })
    open(answer, "w").write(json.dumps(rows))
"""


def test_it_samples_as_the_local_policy_does_from_the_weights_it_was_given(tiny: Path, tmp_path: Path):
    program, answer = tmp_path / "colocated.py", tmp_path / "answer.json"
    program.write_text(PROGRAM, encoding="utf-8")
    root = str(Path(__file__).parents[4])
    environment = os.environ | {"PYTHONPATH": root, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run(
        [sys.executable, str(program), str(tiny), str(answer)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(answer.read_text(encoding="utf-8"))
    assert [row["versions"] for row in rows] == [[1], [2]]
    for row in rows:
        assert row["own"] < 1e-3 and row["cached"] < 1e-3
        assert row["ours"] == row["local"]
        assert row["distinct"] == [3, 3, 3]
        assert row["errors"] == ["the prompt has 400 tokens; the model's context is 320"] * 2
    assert rows[0]["ours"] != rows[1]["ours"]
