"""Training configs: defaults, places in messages, plug-in sections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import dump_yaml
from engine.errors import ConfigError, UnknownName
from rl import schema
from rl.config import load

GOOD = """\
model: {name: some-model}
method:
  kind: grpo
source:
  kind: arithmetic
rewards: [first_line_equals]
trainer:
  steps: 7
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_those_of_trl(tmp_path: Path) -> None:
    experiment = load(write(tmp_path, GOOD))
    config = experiment.config
    assert (config.trainer.lr, config.policy.completions, config.policy.temperature) == (1e-6, 8, 1.0)
    assert (experiment.method.beta, experiment.method.clip_low, config.trainer.iterations) == (0.0, 0.2, 1)
    assert config.trainer.steps == 7


def test_the_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    first = load(write(tmp_path, GOOD)).resolved()
    assert load(write(tmp_path, dump_yaml(first))).resolved() == first
    assert load(first).resolved() == first


def test_overrides_reach_every_section(tmp_path: Path) -> None:
    changes = ["trainer.steps=20", "method.beta=0.04", "source.shots=2", "trainer.lr=1e-5", "model.lora.rank=4"]
    experiment = load(write(tmp_path, GOOD), changes)
    assert (experiment.config.trainer.steps, experiment.method.beta, experiment.source.shots) == (20, 0.04, 2)
    assert experiment.config.trainer.lr == 1e-5
    assert experiment.config.model.lora is not None and experiment.config.model.lora.rank == 4


BAD = [
    (
        "trainer:\n  steps",
        "trainer:\n  setps",
        "x.yaml:8:10",
        ["unknown key 'setps'", "Did you mean 'steps'?"],
    ),
    ("steps: 7", "steps: seven", "x.yaml:8:10", ["'seven'", "integer"]),
    ("steps: 7", "steps: 0", "x.yaml:8:10", ["0", "greater than or equal to 1"]),
    ("kind: grpo", "kind: gpro", "x.yaml:3:9", ["no method 'gpro'", "Did you mean 'grpo'?", "allowed: "]),
    ("kind: grpo", "kind: grpo\n  bata: 0.1", "x.yaml:4:9", ["unknown key 'bata'", "Did you mean 'beta'?"]),
    ("kind: grpo", "kind: grpo\n  loss: dappo", "x.yaml:4:9", ["'dappo'", "Did you mean 'dapo'?"]),
    ("kind: arithmetic", "kind: arithmetik", "x.yaml:5:9", ["no source 'arithmetik'", "Did you mean 'arithmetic'?"]),
    ("kind: arithmetic", "kind: arithmetic\n  shots: -1", "x.yaml:6:10", ["-1"]),
    ("kind: grpo", "kind: sppo", "x.yaml:3:9", ["Did you mean 'spo'?", "next: SPPO (Wu et al., 2405.00675)"]),
    ("kind: grpo", "kind: spo", "x.yaml:2:1 at method.preference", ["the key is missing"]),
    (
        "kind: grpo",
        "kind: spo\n  preference:\n    kind: judge\n    lmm: x",
        "x.yaml:6:10 at method.preference.lmm",
        ["unknown key 'lmm'. Did you mean 'llm'?", "allowed: agent, kind, llm, workers"],
    ),
    (
        "kind: grpo",
        "kind: spo\n  preference: {kind: judge, workers: 0}",
        "x.yaml:4:38 at method.preference.workers",
        ["greater than or equal to 1"],
    ),
    ("  kind: grpo", "  beta: 0.1", "x.yaml:2:1", ["'kind' is missing", "allowed: "]),
    ("rewards: [first_line_equals]", "rewards: []", "x.yaml:6:10", ["learns from rewards, and none is named"]),
    ("model: {name: some-model}\n", "", "x.yaml at model", ["missing"]),
    ("steps: 7", "prompts: 8\n  minibatches: 3", "x.yaml:9:16", ["8 prompts", "a divisor"]),
    ("steps: 7", "steps: 7\n  steps: 8", "x.yaml:9:3", ["duplicate key"]),
]


@pytest.mark.parametrize(("old", "new", "place", "parts"), BAD)
def test_a_fault_is_named_with_its_place(tmp_path: Path, old: str, new: str, place: str, parts: list[str]) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises((ConfigError, UnknownName)) as caught:
        load(path)
    message = str(caught.value)
    assert str(path.parent / place) in message
    assert all(part in message for part in parts), message
    assert caught.value.exit_code == 2


def test_a_preference_that_compares_rewards_needs_some(tmp_path: Path) -> None:
    changes = ["method={kind: spo, preference: {kind: rewards}}", "rewards=[]"]
    path = write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"method 'spo' learns from rewards, and none is named"):
        load(path, changes)
    assert load(path, changes[:1]).method.kind == "spo"
    assert load(path, ["method={kind: spo, preference: 'game.py:beats'}", "rewards=[]"]).method.kind == "spo"


def test_a_bad_override_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"override trainer\.steps=many"):
        load(write(tmp_path, GOOD), ["trainer.steps=many"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read the config: No such file"):
        load(tmp_path / "absent.yaml")


def test_the_schema_has_every_plugin_and_check_says_what_is_trained(tmp_path: Path) -> None:
    whole = schema.schema()
    assert "beta" in whole["$defs"]["method.grpo"]["properties"]
    assert "shots" in whole["$defs"]["source.arithmetic"]["properties"]
    assert schema.check(write(tmp_path, GOOD), []) == (
        "grpo on arithmetic: some-model, 7 steps of 8 prompts x 8 completions"
    )
    assert {"model", "method", "source", "rewards", "policy", "trainer"} <= schema.keys()


def test_checking_a_config_loads_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, rl.schema as s\n"
        f"s.check(pathlib.Path({str(write(tmp_path, GOOD))!r}), []); s.schema()\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
