"""Runs of the loop on forward passes, on a tiny model."""

from __future__ import annotations

import copy
import json
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import rl
from engine.errors import ConfigError, DataError, InputError, NonFinite
from rl.config import load
from rl.methods import load as load_method
from rl.methods._zeroth_order import Point
from rl.trainers.quantized import QuantizedLinear, packed, unpacked
from rl.trainers.zeroth_order import replay

FAMILY: dict[str, dict[str, Any]] = {
    "mezo": {"method": {"kind": "mezo", "estimates": 2}, "trainer": {"lr": 1e-3}},
    "mezo_lora": {
        "method": {"kind": "mezo", "mu": 1e-2},
        "model": {"lora": {"rank": 2, "dropout": 0.2}},
        "trainer": {"lr": 1e-2},
    },
    "mezo_bfloat16": {"method": {"kind": "mezo"}, "model": {"dtype": "bfloat16"}, "trainer": {"lr": 1e-3}},
    "es": {"method": {"kind": "es", "population": 4, "mu": 0.05}, "trainer": {"lr": 0.05}},
    "es_subspace": {
        "method": {"kind": "es", "population": 4, "mu": 2.0, "space": {"dims": 5}},
        "trainer": {"lr": 0.05},
    },
    "sparse_mezo": {"method": {"kind": "sparse_mezo"}, "trainer": {"lr": 1e-3}},
    "block_mezo": {"method": {"kind": "block_mezo", "blocks_per_step": 1}, "trainer": {"lr": 1e-3}},
    "forward_gradient": {"method": {"kind": "forward_gradient"}, "trainer": {"lr": 1e-3}},
    "cge": {"method": {"kind": "cge", "space": {"dims": 3}}, "trainer": {"lr": 0.1}},
    "qzo": {
        "method": {"kind": "qzo"},
        "model": {"quantize": {"bits": 4, "group": 16}},
        "trainer": {"lr": 1e-4},
    },
}


def member(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The tiny config with those values; losses are of answers, so rewards are named for members that want them."""
    config = copy.deepcopy(config)
    if not name.startswith("es"):
        config["rewards"] = []
    for section, values in copy.deepcopy(FAMILY[name]).items():
        config[section] = values if "kind" in values else config[section] | values
    return config


def trained(config: dict[str, Any], folder: Path, **more: Any) -> rl.Run:
    return rl.train(config, run_dir=folder, is_quiet=True, **more)


def steps(run: rl.Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics if "eval" not in row]


@pytest.mark.parametrize("name", FAMILY)
def test_the_log_alone_leads_to_the_same_weights(tiny_config: dict[str, Any], tmp_path: Path, name: str) -> None:
    """From the starting model, by each step's (number, coefficient) terms: bit for bit those of the last checkpoint."""
    config = member(tiny_config, name)
    run = trained(config, tmp_path / "run")
    assert len(steps(run)) == 4 and any(row["terms"] for row in steps(run))
    experiment = load(config)
    method = experiment.method_class(experiment.method, seed=0)
    from rl.trainers.model import load_model, save_model

    model = load_model(experiment, config["model"]["name"], None, torch.device("cpu"))
    before = {n: p.clone() for n, p in model.named_parameters()}
    replay(run.path, model, experiment, method)
    save_model(model, tmp_path / "replayed")
    assert run.model_path is not None
    for file in (tmp_path / "replayed").glob("*.safetensors"):
        found, wanted = load_file(file), load_file(run.model_path / file.name)
        assert set(found) == set(wanted) and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", ["mezo", "mezo_lora", "cge", "qzo", "es"])
def test_a_checkpoint_is_evaluated_as_the_run_was(tiny_config: dict[str, Any], tmp_path: Path, name: str) -> None:
    run = trained(member(tiny_config, name), tmp_path / "run")
    assert rl.evaluate(run.path, is_quiet=True) == run.evaluation


def test_memory_that_is_brought_over_in_blocks_changes_nothing(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    config = member(tiny_config, "mezo")
    plain = trained(config, tmp_path / "plain")
    config["method"]["offload"] = True
    assert [row["terms"] for row in steps(trained(config, tmp_path / "offload"))] == [r["terms"] for r in steps(plain)]


@pytest.mark.gpu
def test_weights_that_stay_outside_the_accelerator_give_the_same_slopes(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    config = member(tiny_config, "mezo")
    slopes = []
    for is_offloaded in (False, True):
        config["method"]["offload"] = is_offloaded
        slopes.append([row["slope"] for row in steps(trained(config, tmp_path / str(is_offloaded)))])
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-2)


def test_a_loss_falls_by_forward_passes_alone_and_not_by_moves_as_long_in_directions_by_chance(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    """Three seeds. The control makes the same run's moves with each coefficient's sign drawn anew."""
    config = member(tiny_config, "mezo")
    config["method"] |= {"estimates": 4, "mu": 1e-2}
    config["trainer"] |= {
        "steps": 40,
        "prompts": 20,
        "lr": 4e-3,
        "eval_every": 40,
        "save_every": 40,
        "micro_batch_tokens": 999,
    }
    for seed in range(3):
        config["seed"] = seed
        run = trained(config, tmp_path / f"{seed}")
        first, last = run.baseline["train"]["loss"], run.evaluation["train"]["loss"]
        draws, folder = random.Random(seed), tmp_path / f"control-{seed}"
        folder.mkdir()
        rows = [
            json.dumps({**row, "terms": [[n, draws.choice((1, -1)) * c] for n, c in row["terms"]]}) + "\n"
            for row in steps(run)
        ]
        (folder / "metrics.jsonl").write_text("".join(rows))
        experiment = load(config)
        model = AutoModelForCausalLM.from_pretrained(config["model"]["name"])
        replay(folder, model, experiment, experiment.method_class(experiment.method, seed=seed))
        model.save_pretrained(folder / "model")
        for file in Path(config["model"]["name"]).glob("tokenizer*"):
            (folder / "model" / file.name).write_bytes(file.read_bytes())
        chance = rl.evaluate(config | {"model": config["model"] | {"name": str(folder / "model")}}, is_quiet=True)
        assert last < 0.6 * first
        assert chance["train"]["loss"] > 0.85 * first


def test_a_reward_rises_by_a_population(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """The reward wants sevens; a population whose rewards are of nothing stays where it was."""
    config = member(tiny_config, "es")
    config["method"] |= {"population": 16, "mu": 0.1, "antithetic": True}
    config["trainer"] |= {"steps": 15, "lr": 0.15, "eval_every": 0, "save_every": 15}
    rewards = [row["reward_mean"] for row in steps(trained(config, tmp_path / "run"))]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.5


def test_numbers_of_four_bits_share_bytes_and_come_back() -> None:
    numbers = torch.randint(-7, 8, (3, 10), dtype=torch.int8)
    assert packed(numbers).shape == (3, 5) and torch.equal(unpacked(packed(numbers)), numbers)


@pytest.mark.parametrize("bits, most", [(4, 7), (8, 127)])
def test_a_quantized_layer_is_within_half_a_step_of_the_plain_one(bits: int, most: int) -> None:
    linear = torch.nn.Linear(32, 5)
    layer = QuantizedLinear(linear, bits, 16)
    runs = linear.weight.detach().unflatten(1, (2, 16))
    torch.testing.assert_close(layer.scales.detach(), runs.abs().amax(-1) / most)
    error = (layer.weight().detach() - linear.weight.detach()).abs().unflatten(1, (2, 16))
    assert bool((error <= layer.scales[..., None] * 0.5001).all()) and bool(error.any())
    given = torch.randn(4, 32)
    torch.testing.assert_close(layer(given), torch.nn.functional.linear(given, layer.weight(), linear.bias))


def test_of_a_quantized_model_only_scales_move_and_they_stay_positive(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    config = member(tiny_config, "qzo")
    config["trainer"]["lr"] = 0.5  # far too much
    run = trained(config, tmp_path / "run")
    assert run.model_path is not None
    start = AutoModelForCausalLM.from_pretrained(config["model"]["name"])
    layers = {
        name: QuantizedLinear(module, 4, 16)
        for name, module in start.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    scales, saved = load_file(run.model_path / "scales.safetensors"), load_file(run.model_path / "model.safetensors")
    assert set(scales) == set(layers) and all(bool((s >= 0).all()) for s in scales.values())
    assert any(not bool(s.all()) for s in scales.values())
    for name, layer in layers.items():
        with torch.no_grad():
            layer.scales.copy_(scales[name])
        assert torch.equal(layer.weight().detach(), saved[f"{name}.weight"])
    assert torch.equal(start.model.embed_tokens.weight.detach(), saved["model.embed_tokens.weight"])


def test_adapters_begin_with_a_second_matrix_that_is_not_zero_and_each_has_its_own(
    tiny_config: dict[str, Any],
) -> None:
    from rl.trainers.model import load_model
    from rl.trainers.zeroth_order import LORA_B, begin_adapters

    config = member(tiny_config, "mezo_lora")
    model = load_model(load(config), config["model"]["name"], None, torch.device("cpu"))
    begin_adapters(model, 0)
    found = [p.detach().flatten() for n, p in model.named_parameters() if "lora_B" in n]
    assert torch.cat(found).std() == pytest.approx(LORA_B, rel=0.1)
    assert len({tuple(values[:8].tolist()) for values in found}) == len(found)


BAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("mezo", {"trainer": {"betas": [0.8, 0.9]}}, ["trainer.betas", "means nothing there"]),
    ("mezo", {"trainer": {"control": "shuffled_rewards"}}, ["trainer.control"]),
    ("mezo", {"method": {"objective": "reward"}}, ["learns from rewards, and none is named"]),
    ("mezo", {"model": {"quantize": {}}}, ["trains weights", "method.kind=qzo"]),
    ("qzo", {"model": {"quantize": None}}, ["moves the scales of a quantized model", "bits: 4"]),
    ("qzo", {"model": {"quantize": {"bits": 3}}}, ["bits"]),
    ("mezo_lora", {"method": {"offload": True}}, ["model.lora=null"]),
    ("mezo", {"method": {"mu": 0}}, ["mu", "greater than 0"]),
    ("es", {"method": {"antithetic": True, "population": 5}}, ["must be even"]),
    ("forward_gradient", {"method": {"objective": "reward"}}, ["'reward'", "loss"]),
]


@pytest.mark.parametrize("name, changes, said", BAD)
def test_bad_settings(tiny_config: dict[str, Any], name: str, changes: dict[str, Any], said: list[str]) -> None:
    config = member(tiny_config, name)
    for section, values in changes.items():
        config[section] = config[section] | values
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_processes_that_would_sample_their_points_from_one_server(tiny_config: dict[str, Any]) -> None:
    from types import SimpleNamespace

    from rl.trainers.objectives import SampledReward
    from rl.trainers.zeroth_order import _require_own_sampler

    experiment, objective = load(member(tiny_config, "es")), SampledReward(SimpleNamespace())  # type: ignore[arg-type]
    for processes, is_local, is_refused in ((2, False, True), (1, False, False), (2, True, False)):
        prepared = SimpleNamespace(accelerator=SimpleNamespace(num_processes=processes), experiment=experiment)
        parts: Any = SimpleNamespace(prepared=prepared, policy=SimpleNamespace(samples_trained_model=is_local))
        with pytest.raises(ConfigError, match="weights of one of them") if is_refused else nullcontext():
            _require_own_sampler(parts, objective)


def test_prompts_without_answers(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1+1=", "reply": "2"}\n')
    config = member(tiny_config, "mezo") | {"source": {"kind": "jsonl", "path": str(tmp_path / "prompts.jsonl")}}
    with pytest.raises(DataError, match="no column 'answer'"):
        rl.train(config, run_dir=tmp_path / "run", is_quiet=True)


def test_groups_that_do_not_divide_a_layer(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    config = member(tiny_config, "qzo")
    config["model"]["quantize"]["group"] = 48
    with pytest.raises(InputError, match="groups of 48 do not divide"):
        rl.train(config, run_dir=tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mezo", "es"])
def test_what_gives_no_move_stops_before_it_with_what_was_found_saved(
    tiny_config: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = member(tiny_config, name)
    method = load_method(config["method"]["kind"])
    real = method.move

    def move(self: Any, step: int, rate: float, measured: Any) -> Any:
        real(self, step, rate, measured)
        return Point(((0, float("nan")),)) if step == 2 else real(self, step, rate, measured)

    monkeypatch.setattr(method, "move", move)
    with pytest.raises(NonFinite, match="step 3 gives no move"):
        trained(config, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "nonfinite-step-000003" / "points.json").read_text())
    assert len(found["losses"]) == 4 and (tmp_path / "run" / "checkpoints" / "step-000002").exists()
