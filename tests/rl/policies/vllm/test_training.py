"""Training with rollouts of a real server: it learns what it is given, and stops and goes on without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import rl
from engine.errors import ConfigError, Stopped
from rl import checkpoint
from rl.policies._vllm.endpoint import Endpoint
from rl.policies._vllm.launch import OwnServer
from rl.policies._vllm.probe import probe_ids, served_difference, trainer_scores
from tests.rl.policies.vllm.conftest import CONTEXT, KEY, REWARD, free_port, on, serving

pytestmark = pytest.mark.vllm


def train(config: dict[str, Any], run: Path, *overrides: str, resume: bool = False) -> rl.Run:
    return rl.train(config, overrides, resume, run_dir=run, is_quiet=True)


def rows(run: rl.Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics if "reward_mean" in row]


def prompts(run: Path) -> list[tuple[int, str]]:
    lines = (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["step"], row["id"]) for row in map(json.loads, lines)]


def test_after_training_the_server_computes_with_the_new_weights(
    config: dict[str, Any], server: OwnServer, tokenizer: Any, base: Any, tmp_path: Path
):
    run = train(on(config, server), tmp_path / "run")
    for row in rows(run):
        assert row["sampler_difference"] < 1e-4 and row["sampler_difference_max"] < 1e-3
        assert row["sampler_ess"] == pytest.approx(1.0, abs=1e-4)
        assert row["sampler_ratio_mean"] == pytest.approx(1.0, abs=1e-3)
        assert row["staleness"] == 0 and row["grad_norm"] > 0
    endpoint = Endpoint(server.url, KEY)
    ids, name = probe_ids(tokenizer, 257, CONTEXT), endpoint.models()[0]["id"]
    found = {
        which: served_difference(lambda body: endpoint.complete(body, 60), name, ids, trainer_scores(model, ids, None))
        for which, model in (("new", AutoModelForCausalLM.from_pretrained(run.model_path)), ("old", base))
    }
    assert max(found["new"].own, found["new"].cached) < 1e-3
    assert min(found["old"].own, found["old"].cached) > 1e-2


def test_it_learns(config: dict[str, Any], server: OwnServer, tmp_path: Path):
    steps = rows(train(on(config, server), tmp_path / "run", "trainer.steps=25", "trainer.save_every=25"))
    assert steps[-1]["reward_mean"] > steps[0]["reward_mean"] + 0.3


def test_a_run_may_hold_completions_to_a_structure(config: dict[str, Any], server: OwnServer, tmp_path: Path):
    """The whole distribution gives such completions little: their weights, below 1, say how much."""
    run = train(on(config, server, structure={"regex": "[a-d1-4]{4}"}), tmp_path / "run", "trainer.steps=2")
    lines = (tmp_path / "run" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines and all(re.fullmatch("[a-d1-4]{4}", json.loads(line)["completion"]) for line in lines)
    assert all(0 < row["sampler_ratio_mean"] < 1 and row["grad_norm"] > 0 for row in rows(run))


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_that_was_stopped_uses_every_batch_once(
    config: dict[str, Any], server: OwnServer, tmp_path: Path, ahead: int
):
    config = on(config, server, max_staleness=ahead)
    whole = train(config, tmp_path / "whole", "trainer.steps=5")
    assert [row["staleness"] for row in rows(whole)] == [min(k, ahead) for k in range(5)]
    run = tmp_path / "stopped"
    run.mkdir()
    rewards = tmp_path / "rewards.py"
    original = rewards.read_text(encoding="utf-8")
    rewards.write_text(REWARD.format(victim="", then=f"    pathlib.Path({str(run / 'STOP')!r}).touch()\n"), "utf-8")
    with pytest.raises(Stopped):
        train(config, run, "trainer.steps=5")
    rewards.write_text(original, encoding="utf-8")
    [saved] = checkpoint.steps(run / "checkpoints")
    assert [len(batches) for batches in checkpoint.read_state(saved).record["ahead"]] == [ahead]
    resumed = train(config, run, "trainer.steps=5", resume=True)
    assert prompts(run) == prompts(tmp_path / "whole")
    assert [row["staleness"] for row in rows(resumed)] == [row["staleness"] for row in rows(whole)]
    assert [row["reward_mean"] for row in rows(resumed)] == pytest.approx(
        [row["reward_mean"] for row in rows(whole)], abs=0.05
    )


@pytest.fixture
def mortal(tiny: Path, tmp_path: Path) -> Iterator[OwnServer]:
    with serving(tiny, tmp_path / "vllm.log") as server:
        yield server


def test_a_run_whose_server_stays_away_stops_whole_and_goes_on_with_the_next_one(
    config: dict[str, Any], server: OwnServer, mortal: OwnServer, tmp_path: Path
):
    """Killed after the third batch was sampled: the update is made and kept, although a save was not due."""
    whole = train(on(config, server), tmp_path / "whole", "trainer.save_every=4")
    assert mortal.process is not None
    # One completion is scored before the start, then 32 a batch.
    (tmp_path / "victim").write_text(f"{1 + 2 * 32 + 1} {mortal.process.pid}", encoding="utf-8")
    dying = on(config, mortal, vllm={"restart_timeout_s": 2})
    run = tmp_path / "run"
    with pytest.raises(Stopped, match="no vLLM server came back") as caught:
        train(dying, run, "trainer.save_every=4")
    assert caught.value.exit_code == 75
    assert [path.name for path in checkpoint.steps(run / "checkpoints")] == ["step-000003"]
    mortal.stop()
    mortal.start()
    mortal.wait(Endpoint(mortal.url))
    resumed = train(dying, run, "trainer.save_every=4", resume=True)
    assert prompts(run) == prompts(tmp_path / "whole")
    assert [row["step"] for row in rows(resumed)] == [1, 2, 3, 4]
    assert [r["reward_mean"] for r in rows(resumed)] == pytest.approx([r["reward_mean"] for r in rows(whole)], abs=0.05)


def test_a_run_starts_its_own_server_and_ends_it(config: dict[str, Any], tmp_path: Path):
    """In bfloat16, with adapters."""
    config["model"] |= {"autocast": "bfloat16", "lora": {"rank": 4}}
    config["policy"] |= {"vllm": {"port": free_port(), "context": CONTEXT}}
    run = train(config, tmp_path / "run", "trainer.steps=3")
    assert all(0 < row["sampler_difference"] < 0.1 for row in rows(run))
    log = (tmp_path / "run" / "vllm.log").read_text(encoding="utf-8")
    assert "--enable-lora" in log or "enable_lora" in log
    assert not Endpoint(f"http://127.0.0.1:{config['policy']['vllm']['port']}").is_healthy(1)


@pytest.mark.parametrize("truncation", ["policy.top_p=0.9", "policy.top_k=5", "policy.min_p=0.1"])
def test_truncated_sampling_is_refused_with_the_reason(config: dict[str, Any], truncation: str):
    with pytest.raises(ConfigError, match=r"ratio would be biased(.|\n)*policy.engine=local"):
        rl.train(config | {"policy": config["policy"] | {"vllm": {"servers": ["http://127.0.0.1:9"]}}}, [truncation])
