"""A run that was killed anywhere and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rl import checkpoint
from tests.rl.trainers.pipelines import of_classes

Launch = Callable[..., dict[str, Any]]

HINTED = Path(__file__).with_name("hinted.jsonl")

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "iterations": {"trainer": {"iterations": 2, "steps": 5}},
    "minibatches": {"trainer": {"iterations": 2, "minibatches": 2, "steps": 6, "save_every": 3}},
    "reference": {"method": {"beta": 0.05}, "trainer": {"schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.1}},
    "lora": {"model": {"lora": {"rank": 2, "dropout": 0.2}}, "method": {"beta": 0.05}},
    "bfloat16": {"model": {"autocast": "bfloat16"}},
    "copo": {"method": {"kind": "copo"}, "trainer": {"iterations": 2}},
    "spo": {
        "method": {
            "kind": "spo",
            "preference": {"kind": "rewards"},
            "comparisons": 3,
            "queue": 4,
            "beta": 0.1,
            "entropy": 0.01,
        },
        "source": {"max_operand": 1, "held_out": 0},
        "trainer": {"iterations": 2, "steps": 5},
    },
    "self_negative": {
        "method": {"kind": "npo", "mode": "self_negative", "threshold": 0.8},
        "trainer": {"iterations": 2, "steps": 4},
    },
    "scaf_grpo": {
        "method": {"kind": "scaf_grpo", "exempt_steps": 1, "zero_visits": 2, "template": "{hint}{prompt}"},
        "source": {"kind": "jsonl", "path": str(HINTED)},
        "rewards": ["needs_a_plus"],
        "trainer": {"iterations": 2, "steps": 6},
    },
}
ZEROTH_ORDER: dict[str, dict[str, Any]] = {
    "mezo": {"method": {"kind": "mezo", "estimates": 2}, "trainer": {"lr": 1e-3, "schedule": "linear"}},
    "sparse_mezo": {"method": {"kind": "sparse_mezo"}, "trainer": {"lr": 1e-3}},
    "cge": {"method": {"kind": "cge", "coordinates": 2, "space": {"dims": 4}}, "trainer": {"lr": 0.1}},
    "es": {
        "method": {"kind": "es", "population": 4, "mu": 0.05},
        "model": {"lora": {"rank": 2}},
        "trainer": {"lr": 0.5, "steps": 3},
    },
    "qzo": {"method": {"kind": "qzo"}, "model": {"quantize": {"group": 16}}, "trainer": {"lr": 1e-4}},
}
VARIANTS |= ZEROTH_ORDER
VARIANTS |= {
    "zo_ranksgd": {
        "method": {
            "kind": "zo_ranksgd",
            "objective": "reward",
            "space": {"dims": 4},
            "m": 4,
            "k": 3,
            "mu": 0.5,
            "gamma": 0.5,
            "line_search": 2,
        },
        "model": {"lora": {"rank": 2}},
        "trainer": {"lr": 1.0, "steps": 5},
    },
    "soft_prompt": {  # the whole of it, so that checkpoints keep where it began
        "method": {
            "kind": "zo_ranksgd",
            "space": {"of": "soft_prompt", "text": "1+1", "dims": None},
            "m": 4,
            "k": 4,
            "mu": 0.1,
            "gamma": 0.5,
        },
        "trainer": {"lr": 1.0, "steps": 5},
    },
}
OFFLINE: dict[str, dict[str, dict[str, Any]]] = {
    "npo": {"method": {"variant": "npo_rt", "beta": 1.0}, "trainer": {"schedule": "linear", "weight_decay": 0.1}},
    "npo_kl": {"method": {"variant": "npo_kl"}, "model": {"lora": {"rank": 2, "dropout": 0.2}}},
    "npo_kl_copy": {"method": {"variant": "npo_kl"}, "trainer": {"save_every": 3}},
    "dpo_idk": {"method": {"variant": "dpo_idk", "retain": "nll"}, "trainer": {"save_every": 2}},
    "sft": {"method": {"kind": "sft"}},
}
DIFFUSION: dict[str, dict[str, dict[str, Any]]] = {
    "self": {"trainer": {"schedule": "cosine", "weight_decay": 0.1}},
    "data": {"method": {"start": "data"}},
    "lora": {"model": {"lora": {"rank": 2, "dropout": 0.2, "targets": ["to_q", "conv1"]}}},
}


@pytest.fixture(scope="module")
def launch() -> Iterator[Launch]:
    """Starts a training process in a fork and tells how it ended."""
    command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def order(config: dict[str, Any], run_dir: Path, *, resume: bool = False, kill_at: int | None = None) -> Any:
            assert process.stdin is not None and process.stdout is not None
            line = {"config": config, "run_dir": str(run_dir), "resume": resume, "kill_at": kill_at}
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield order
        process.stdin.close()  # type: ignore[union-attr]


def variant(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The tiny config with those values; a section of another kind is replaced, a reward is one of the tiny model's."""
    config = copy.deepcopy(config)
    for section, values in (VARIANTS | OFFLINE)[name].items():
        if section == "rewards":
            config[section] = [f"{config['model']['name']}/rewards.py:{reward}" for reward in values]
        else:
            config[section] = values if "kind" in values else config[section] | values
    return config


def final_state(run: Path) -> dict[str, bytes]:
    """Weights, optimizer and tensors of the last checkpoint as bytes, by file name."""
    last = max((run / "checkpoints").glob("step-*"))
    return {str(p.relative_to(last)): p.read_bytes() for p in sorted(last.rglob("*.safetensors"))}


def rows(run: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]


def check(launch: Launch, config: dict[str, Any], folder: Path, kills: int | None) -> None:
    """Kill at `kills` places spread over the whole run (None: everywhere), resume, compare."""
    whole = folder / "whole"
    ended = launch(config, whole)
    assert ended["exit"] == 0
    expected, expected_rows = final_state(whole), rows(whole)
    assert any(row.get("grad_norm", 0) > 0 or row.get("terms") or row.get("is_moved") for row in expected_rows)
    every = 1 if kills is None else max(1, ended["events"] // kills)
    for kill_at in range(1 + every // 2, ended["events"] + 1, every):
        run = folder / f"killed-{kill_at}"
        assert launch(config, run, kill_at=kill_at)["exit"] == -signal.SIGKILL
        assert launch(config, run, resume=True)["exit"] == 0, f"killed at event {kill_at}"
        assert final_state(run) == expected, f"killed at event {kill_at}"
        assert rows(run) == expected_rows, f"killed at event {kill_at}"


@pytest.mark.parametrize(
    "name", [name for name in VARIANTS if name not in ("bfloat16", "sparse_mezo", "self_negative")]
)
def test_killed_and_resumed_runs_end_with_the_same_weights(
    launch: Launch, tiny_config: dict[str, Any], tmp_path: Path, name: str
) -> None:
    check(launch, variant(tiny_config, name), tmp_path, kills=3)


@pytest.mark.parametrize("name", ["npo", "npo_kl", "dpo_idk"])
def test_killed_and_resumed_offline_runs_end_with_the_same_weights(
    launch: Launch, offline_config: dict[str, Any], tmp_path: Path, name: str
) -> None:
    check(launch, variant(offline_config, name), tmp_path, kills=2)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A config of the diffusion loop for a tiny network, with pictures of two classes."""
    pixels = [[(i * j) % 8 / 7 for i in range(8)] for j in range(8)]
    rows = [{"prompt": str(label), "label": label, "image": pixels} for label in range(2)]
    return {
        "model": {"name": str(of_classes(tmp_path_factory.mktemp("classes"))), "autocast": "none"},
        "method": {"kind": "self_npo", "grid": 4, "truncated": 1, "latents": 6, "average": 0.5},
        "source": {"kind": "rows", "rows": rows},
        "trainer": {"steps": 4, "prompts": 4, "lr": 1e-3, "save_every": 1, "eval_every": 2},
    }


def of_diffusion(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The config with a variant's values."""
    return config | {section: config[section] | values for section, values in DIFFUSION[name].items()}


def test_killed_and_resumed_diffusion_runs_end_with_the_same_weights(
    launch: Launch, diffusion: dict[str, Any], tmp_path: Path
) -> None:
    check(launch, of_diffusion(diffusion, "self"), tmp_path, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFUSION)
def test_diffusion_runs_killed_at_every_event(
    launch: Launch, diffusion: dict[str, Any], tmp_path: Path, name: str
) -> None:
    check(launch, of_diffusion(diffusion, name), tmp_path, kills=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFLINE)
def test_offline_runs_killed_at_every_event(
    launch: Launch, offline_config: dict[str, Any], tmp_path: Path, name: str
) -> None:
    check(launch, variant(offline_config, name), tmp_path, kills=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_killed_at_every_event(launch: Launch, tiny_config: dict[str, Any], tmp_path: Path, name: str) -> None:
    check(launch, variant(tiny_config, name), tmp_path, kills=None)


def test_killed_again_and_again(launch: Launch, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """Every process dies after a few events more than it needs to come back."""
    config = variant(tiny_config, "iterations")
    assert launch(config, tmp_path / "whole")["exit"] == 0
    run, deaths = tmp_path / "killed", 0
    while launch(config, run, resume=deaths > 0, kill_at=31 + 7 * (deaths % 3))["exit"] != 0:
        deaths += 1
        assert deaths < 20
    assert deaths >= 2
    assert final_state(run) == final_state(tmp_path / "whole")
    assert rows(run) == rows(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_and_made_again(
    launch: Launch, tiny_config: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    run = tmp_path / "run"
    assert launch(tiny_config, run)["exit"] == 0
    expected, expected_rows = final_state(run), rows(run)
    weights = run / "checkpoints" / "step-000004" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    else:
        content[-1] ^= 1
        weights.write_bytes(content)
    assert launch(tiny_config, run, resume=True)["exit"] == 0
    assert final_state(run) == expected
    assert rows(run) == expected_rows


def test_a_run_may_be_made_longer(launch: Launch, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    longer = copy.deepcopy(tiny_config)
    longer["trainer"]["steps"] = 6
    assert launch(longer, tmp_path / "whole")["exit"] == 0
    assert launch(tiny_config, tmp_path / "grown")["exit"] == 0
    assert launch(longer, tmp_path / "grown", resume=True)["exit"] == 0
    assert final_state(tmp_path / "grown") == final_state(tmp_path / "whole")


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ({}, {"steps": 2}, 1),
        ({"schedule": "linear"}, {"schedule": "linear", "steps": 6}, 1),
        ({}, {"lr": 0.02}, 2),
    ],
)
def test_what_a_resumed_run_may_not_change(
    launch: Launch, tiny_config: dict[str, Any], tmp_path: Path, first: Any, second: Any, code: int
) -> None:
    changed = copy.deepcopy(tiny_config)
    tiny_config["trainer"] |= first
    changed["trainer"] |= second
    assert launch(tiny_config, tmp_path / "run")["exit"] == 0
    assert launch(changed, tmp_path / "run", resume=True)["exit"] == code


@pytest.mark.parametrize("kills", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_killed_self_play_goes_on_with_its_buffers(
    launch: Launch, self_play: dict[str, Any], tmp_path: Path, kills: int | None
) -> None:
    check(launch, self_play, tmp_path, kills=kills)
    last = max((tmp_path / "whole" / "checkpoints").glob("step-*"))
    buffers = checkpoint.read_state(last).record["source"]["buffers"]
    assert len(buffers["deduction"]) + len(buffers["abduction"]) > 8 + 2  # so the run depended on what it had proposed
