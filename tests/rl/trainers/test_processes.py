"""Two processes train what one does: each samples and backpropagates its share of the groups."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rl import checkpoint

PROGRAM = """
import atexit, json, os, sys, torch
torch.set_num_threads(1)
# The first that is registered is the last that is run: by then the process has left its group.
atexit.register(lambda: torch.distributed.is_initialized() and os._exit(9))
import rl
config, run_dir, resume = json.loads(sys.argv[1])
rl.train(config, resume=resume, run_dir=run_dir, is_quiet=True)
"""


def launch(config: dict[str, Any], run: Path, processes: int, *, resume: bool = False) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "ACCELERATE_USE_CPU": "true"}
        if processes > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        order = json.dumps([config, str(run), resume])
        children.append(subprocess.Popen([sys.executable, "-c", PROGRAM, order], env=environment))
    assert [child.wait(timeout=120) for child in children] == [0] * processes


METHODS: list[dict[str, Any]] = [
    {"kind": "grpo", "beta": 0.05},
    {"kind": "spo", "preference": {"kind": "rewards"}, "beta": 0.05, "queue": 4, "comparisons": 3},
]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["kind"])
def test_two_processes_end_where_one_does(tiny_config: dict[str, Any], tmp_path: Path, method: dict[str, Any]) -> None:
    tiny_config["trainer"] |= {"iterations": 2, "steps": 3, "lr": 1e-3}
    tiny_config["method"] = method
    launch(tiny_config, tmp_path / "one", 1)
    launch(tiny_config, tmp_path / "two", 2)
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for a, b in zip(one, two, strict=True):
        for key in {"reward_mean", "loss", "grad_norm", "tokens", "kl", "entropy"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-5)
        assert a.get("eval") == b.get("eval")
    left, right = (load_file(tmp_path / name / "checkpoints/step-000003/model.safetensors") for name in ("one", "two"))
    # Adam moves a weight by about lr whatever the gradient's size, so rounding shows only where it is near 0.
    assert all((left[k] - right[k]).abs().mean() < 1e-5 for k in left)
    longer = {**tiny_config, "trainer": tiny_config["trainer"] | {"steps": 5}}
    launch(longer, tmp_path / "two", 2, resume=True)
    launch(longer, tmp_path / "whole", 2)
    files = [tmp_path / name / "checkpoints/step-000005/model.safetensors" for name in ("two", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


RANKER = """
import os
from pathlib import Path


def sevens(items, question):
    with Path(__file__).with_suffix(".log").open("a") as log:
        log.write(f"{os.environ.get('RANK', 'alone')}\\n")
    return {one: text.count("7") for one, text in items.items()}
"""


@pytest.mark.slow
def test_of_two_processes_the_main_one_asks_the_ranker(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "ranker.py").write_text(RANKER, encoding="utf-8")
    tiny_config["method"] = {
        "kind": "zo_ranksgd",
        "objective": "samples",
        "ranker": str(tmp_path / "ranker.py:sevens"),
        "space": {"dims": 4},
        "m": 5,
        "k": 5,
        "mu": 1.0,
        "gamma": 0.5,
    }
    tiny_config["trainer"] |= {"lr": 2.0}
    launch(tiny_config, tmp_path / "one", 1)
    launch(tiny_config, tmp_path / "two", 2)
    asked = (tmp_path / "ranker.log").read_text(encoding="utf-8").split()
    assert set(asked) == {"alone", "0"} and asked.count("alone") == asked.count("0") > 1
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in one] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in two
    ]
    assert any(row.get("is_moved") for row in one)


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"variant": "npo_kl"}, {"variant": "dpo_idk", "retain": "nll"}])
def test_two_processes_unlearn_as_one_does(offline_config: dict[str, Any], tmp_path: Path, method: Any) -> None:
    """An odd number of rows, so that the shares differ."""
    offline_config["method"] |= method
    for processes in (1, 2):
        launch(offline_config, tmp_path / f"{processes}", processes)
    one, two = (rows(tmp_path / name) for name in ("1", "2"))
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for a, b in zip(one, two, strict=True):
        for key in a.keys() - {"seconds", "eval"}:
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-4), key
        for part, found in a.get("eval", {}).items():
            assert found == pytest.approx(b["eval"][part], rel=1e-2, abs=1e-3)


ZEROTH_ORDER: list[dict[str, Any]] = [
    {"method": {"kind": "mezo", "estimates": 2}, "rewards": []},
    {"method": {"kind": "es", "population": 5, "mu": 0.05}},
    {"method": {"kind": "forward_gradient", "estimates": 3}, "rewards": []},
]


@pytest.mark.parametrize(
    "changes", [ZEROTH_ORDER[0], *(pytest.param(c, marks=pytest.mark.slow) for c in ZEROTH_ORDER[1:])]
)
def test_two_processes_that_exchange_numbers_alone_end_bit_for_bit_where_one_does(
    tiny_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Points are shared out, and what was found at each is all that is sent."""
    for processes in (1, 2):
        launch(tiny_config | changes, tmp_path / f"{processes}", processes)
    one, two = (rows(tmp_path / name) for name in ("1", "2"))
    assert [row.get("terms") for row in one] == [row.get("terms") for row in two] and one[1]["terms"]
    saved = [tmp_path / name / "checkpoints/step-000004/model.safetensors" for name in ("1", "2")]
    assert saved[0].read_bytes() == saved[1].read_bytes()


@pytest.mark.slow
def test_two_processes_play_as_one_does(self_play: dict[str, Any], tmp_path: Path) -> None:
    """Each runs its share of the proposals in a sandbox of its own, and all have the same buffers."""
    for processes in (1, 2):
        launch(self_play, tmp_path / f"{processes}", processes)
    one, two = (rows(tmp_path / name) for name in ("1", "2"))
    assert [row.keys() for row in one] == [row.keys() for row in two]
    assert any(row.get("azr/new", 0) > 0 for row in one)
    for a, b in zip(one, two, strict=True):
        assert a.get("eval") == b.get("eval")
        for key in (key for key in a if key != "eval" and not key.startswith("seconds")):
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-4), key
    saved = [tmp_path / name / "checkpoints" / "step-000006" for name in ("1", "2")]
    buffers = [checkpoint.read_state(path).record["source"] for path in saved]
    assert buffers[0] == buffers[1]


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
