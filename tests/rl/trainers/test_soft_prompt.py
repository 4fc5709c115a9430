"""Soft prompts: at the start the model with the text before every prompt, and nothing else is ever changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import rl
from engine.errors import CheckpointError, ConfigError, InputError
from rl.config import load
from rl.methods._zeroth_order import Point
from rl.policies import encode_prompt
from rl.policies.local import LocalPolicy
from rl.trainers.parts import Prepared
from rl.trainers.soft_prompt import add_soft_prompt, bare, prefix_of
from rl.trainers.variables import trained
from rl.trainers.zeroth_order import objective_of, variables_of
from rl.types import Request

TEXT = "1+1=2"


@pytest.fixture
def soft_config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    space = {"of": "soft_prompt", "text": TEXT, "dims": 6}
    method = {"kind": "zo_ranksgd", "space": space, "m": 4, "k": 4, "mu": 0.5, "gamma": 0.5, "line_search": 3}
    tiny_config["method"] = method
    tiny_config["trainer"] |= {"lr": 1.0, "steps": 6, "save_every": 3}
    return tiny_config


@pytest.fixture
def loaded(tiny_model: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)


def test_the_start_is_the_model_with_the_text_before_the_prompt(loaded: tuple[Any, Any]):
    model, tokenizer = loaded
    ids = tokenizer("3+4=")["input_ids"]
    with torch.no_grad():
        expected = model(torch.tensor([[*tokenizer(TEXT)["input_ids"], *ids]])).logits
        request = Request((*tokenizer(TEXT)["input_ids"], *ids), 3, 8, seed=1)
        sampled = LocalPolicy(model, tokenizer).generate([request])
        add_soft_prompt(model, tokenizer, TEXT)
        prefix = prefix_of(model)
        assert prefix == tuple(range(15, 15 + len(TEXT)))
        assert torch.equal(model(torch.tensor([[*prefix, *ids]])).logits, expected)
    found = LocalPolicy(model, tokenizer).generate([Request((*prefix, *ids), 3, 8, seed=1)])
    assert found == sampled


def test_only_the_rows_are_trained_and_get_a_gradient(loaded: tuple[Any, Any]):
    model, tokenizer = loaded
    add_soft_prompt(model, tokenizer, TEXT)
    [(name, rows)] = trained(model).items()
    assert name == "model.embed_tokens.rows" and rows.shape == (5, 32)
    model(torch.tensor([[*prefix_of(model), 4, 5]])).logits.sum().backward()
    assert bool(rows.grad.abs().sum(1).all())
    assert all(p.grad is None for p in model.parameters() if p is not rows)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight  # tied as before


def test_points_reach_only_the_rows_and_leave_no_trace(soft_config: dict[str, Any]):
    experiment = load(soft_config)
    prepared = Prepared.of(experiment)
    parts = prepared.built(None)
    variables = variables_of(experiment, parts.model, prepared.method, torch.device("cpu"))  # type: ignore[arg-type]
    assert variables.x["coefficients"].shape == (6,)
    before = {name: p.clone() for name, p in parts.model.named_parameters()}
    rows, objective = prepared.source.batch(4), objective_of(parts)
    loss = objective.measured(rows).loss
    with variables.at(Point(values={"coefficients": torch.ones(6)}), 0):
        changed = [name for name, p in parts.model.named_parameters() if not torch.equal(p, before[name])]
        assert changed == ["model.embed_tokens.rows"]
        assert objective.measured(rows).loss != loss
    assert all(torch.equal(p, before[name]) for name, p in parts.model.named_parameters())


def test_the_checkpoint_is_the_bare_model_and_the_rows_beside_it(
    soft_config: dict[str, Any], tiny_model: Path, tmp_path: Path
):
    run = rl.train(soft_config, run_dir=tmp_path / "run", is_quiet=True)
    assert run.model_path is not None and (run.model_path / "soft_prompt.safetensors").is_file()
    saved, start = (AutoModelForCausalLM.from_pretrained(path) for path in (run.model_path, tiny_model))
    weights = dict(start.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in saved.named_parameters())
    assert rl.evaluate(run.model_path, is_quiet=True) == run.evaluation
    assert run.evaluation["train"]["loss"] != run.baseline["train"]["loss"]


def test_without_its_soft_prompt_the_model_is_as_it_was(loaded: tuple[Any, Any]):
    model, tokenizer = loaded
    table, names = model.get_input_embeddings(), list(model.state_dict())
    with bare(model):
        assert prefix_of(model) == ()
    add_soft_prompt(model, tokenizer, TEXT)
    with bare(model):
        assert model.get_input_embeddings() is table and list(model.state_dict()) == names
    assert len(prefix_of(model)) == 5


def test_a_beginning_of_sequence_token_stays_first(loaded: tuple[Any, Any]):
    class WithStart:
        bos_token_id = 1

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, 7, 8]}

    assert encode_prompt(WithStart(), "12", (16, 17)) == (1, 16, 17, 7, 8)
    assert encode_prompt(loaded[1], "12", (16, 17)) == (16, 17, *loaded[1]("12")["input_ids"])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"model": {"lora": {"rank": 2}}}, ConfigError, "model.lora(.|\n)*adapters as well"),
        (
            {"model": {"quantize": {}}, "method": {"kind": "qzo", "space": {"of": "soft_prompt"}}},
            ConfigError,
            "scales as",
        ),
        ({"policy": {"engine": "vllm"}}, ConfigError, "takes token ids"),
        ({"method": {"space": {"of": "soft_prompt", "text": ""}}}, InputError, "has no tokens"),
        ({"method": {"space": {"of": "soft_prompt", "text": "1", "dims": 33}}}, InputError, "33 dimensions(.|\n)*32"),
    ],
)
def test_named_errors(soft_config: dict[str, Any], tmp_path: Path, change: Any, error: Any, said: str):
    for section, values in change.items():
        soft_config[section] = values if "kind" in values else soft_config[section] | values
    with pytest.raises(error, match=said):
        rl.train(soft_config, run_dir=tmp_path / "run", is_quiet=True)


def test_a_checkpoint_of_another_soft_prompt_is_refused(soft_config: dict[str, Any], tmp_path: Path):
    run = rl.train(soft_config, run_dir=tmp_path / "run", is_quiet=True)
    assert run.model_path is not None
    with pytest.raises(CheckpointError, match="of shape"):
        rl.evaluate(run.model_path, ["method.space.text=1+2"], is_quiet=True)
