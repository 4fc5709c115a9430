"""Several servers, and several trainer processes: who samples what, and what happens when one goes."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl.policies._vllm.launch import OwnServer
from rl.types import Request
from tests.rl.policies.vllm.conftest import KEY, Policy, changed, on, serving
from tests.rl.policies.vllm.test_faults import completions, running, started, wait_for
from tests.rl.trainers.test_processes import launch

pytestmark = pytest.mark.vllm

BATCH = [Request((i, i + 1, 7), 4, 120, seed=1000 + i) for i in range(24)]


@pytest.fixture(scope="module")
def second(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with serving(tiny, tmp_path_factory.mktemp("second") / "vllm.log", "--api-key", KEY) as server:
        yield server


def served(server: OwnServer) -> float:
    """Requests that the server has finished."""
    request = urllib.request.Request(f"{server.url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    lines = urllib.request.urlopen(request, timeout=10).read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total"))


def test_two_servers_share_a_batch_and_get_the_same_weights(
    policy: Policy, server: OwnServer, second: OwnServer, base: Any
):
    alone = policy(server.url)
    alone.sync(changed(base, 1), 1)
    expected = completions(alone.generate(BATCH))
    both = policy(server.url, second.url)
    both.sync(changed(base, 1), 1)
    assert set(both.backend.differences) == {server.url, second.url}
    before = [served(server), served(second)]
    assert completions(both.generate(BATCH)) == expected
    shares = [now - then for now, then in zip([served(server), served(second)], before, strict=True)]
    assert sum(shares) == len(BATCH) * 4 and min(shares) >= len(BATCH)  # a quarter of the completions at least


def test_of_two_servers_one_is_killed_and_the_other_finishes(
    policy: Policy, server: OwnServer, second: OwnServer, base: Any
):
    """The last test of this file: the second server is gone afterwards."""
    said: list[str] = []
    both = policy(server.url, second.url, say=said.append, request_timeout_s=300)
    both.sync(changed(base, 2), 1)
    batch = [Request((i, i + 1, 7), 4, 200, seed=2000 + i) for i in range(40)]
    expected = completions(both.generate(batch))
    work = started(lambda: both.generate(batch))
    wait_for(lambda: running(second))
    assert second.process is not None
    os.killpg(second.process.pid, signal.SIGKILL)
    assert completions(work.result(120)) == expected
    assert any(f"vLLM failed: {second.url}" in line for line in said), said
    assert completions(both.generate(batch[:2])) == expected[:2]
    assert any(f"going on without the vLLM server at {second.url}" in line for line in said), said


def test_two_trainer_processes_sample_from_one_server_as_one_does(
    config: dict[str, Any], server: OwnServer, tmp_path: Path
):
    """Each samples its share; one of them gives the weights, and the run is that of a single process."""
    config = on(config, server)
    config["trainer"] |= {"steps": 3, "eval_every": 3}
    found = {}
    for count in (1, 2):
        launch(config, tmp_path / str(count), count)
        lines = (tmp_path / str(count) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        found[count] = [row for row in map(json.loads, lines) if "reward_mean" in row]
        assert all(row["sampler_difference_max"] < 1e-3 for row in found[count])
    means = {count: [row["reward_mean"] for row in rows] for count, rows in found.items()}
    assert len(means[2]) == 3 and means[2] == pytest.approx(means[1], abs=0.05)
