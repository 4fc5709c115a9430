"""A tiny model on disk: a random Llama over characters, which trains in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

REWARDS = """
def sevens(prompts, completions, completion_ids, **columns):
    return [c.count("7") - 0.1 * len(c) for c in completions]


def needs_a_plus(prompts, completions, completion_ids, **columns):
    return [float(p.startswith("+") and c[:1].isdigit()) for p, c in zip(prompts, completions)]
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer Llama with random weights and a tokenizer of single characters."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = {token: i for i, token in enumerate(["<eos>", "<unk>", "\n", *"0123456789+="])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    characters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, eos_token="<eos>", unk_token="<unk>")
    tokenizer.pad_token = "<eos>"
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            eos_token_id=0,
            bos_token_id=None,
            pad_token_id=0,
            tie_word_embeddings=True,
            initializer_range=0.2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "rewards.py").write_text(REWARDS, encoding="utf-8")
    return folder


@pytest.fixture
def tiny_config(tiny_model: Path) -> dict[str, Any]:
    """A training config for the tiny model; its reward wants sevens, which differ in every group."""
    return {
        "model": {"name": str(tiny_model), "autocast": "none"},
        "method": {"kind": "grpo"},
        "source": {"kind": "arithmetic", "max_operand": 4, "shots": 1, "held_out": 5},
        "rewards": [f"{tiny_model}/rewards.py:sevens"],
        "policy": {"engine": "local", "completions": 8, "max_tokens": 3, "stop": ["\n"]},
        "trainer": {
            "steps": 4,
            "prompts": 4,
            "lr": 1e-2,
            "save_every": 1,
            "eval_every": 2,
            "micro_batch_tokens": 100,
        },
    }


def sum_rows(numbers: range) -> list[dict[str, Any]]:
    """Rows in TOFU's columns, without the answer in other words: numbers, which no pattern tells."""
    return [
        {
            "question": f"{n}+{n}=",
            "answer": str(n * 37 % 90 + 10),
            "perturbed_answer": [str((n * 37 + k) % 90 + 10) for k in (11, 29, 53)],
        }
        for n in numbers
    ]


@pytest.fixture
def offline_config(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """A config of the offline loop for the tiny model: 4 rows to forget, 8 to retain, 4 of general knowledge."""
    return _offline_settings(tiny_model, tmp_path)


@pytest.fixture(scope="session")
def taught_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after it has learnt all rows to forget and to retain by heart."""
    import rl

    folder = tmp_path_factory.mktemp("taught")
    config = _offline_settings(tiny_model, folder) | {"method": {"kind": "sft"}}
    config["trainer"] |= {"steps": 120, "prompts": 12, "lr": 2e-2, "save_every": 120, "eval_every": 0}
    run = rl.train(config, run_dir=folder / "run", is_quiet=True)
    losses = [row["nll"] for row in run.metrics]
    assert losses[-1] < 0.05 < 1.0 < losses[0]
    assert run.model_path is not None
    return run.model_path


def _offline_settings(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    for name, numbers in (("forget", range(10, 14)), ("retain", range(20, 28)), ("facts", range(40, 44))):
        lines = [json.dumps(row) + "\n" for row in sum_rows(numbers)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {
        "model": {"name": str(tiny_model), "autocast": "none"},
        "method": {"kind": "npo"},
        "source": {
            "kind": "unlearning",
            "template": "{question}",
            "forget": str(tmp_path / "forget.jsonl"),
            "retain": str(tmp_path / "retain.jsonl"),
            "holdout": {"facts": str(tmp_path / "facts.jsonl")},
            "refusals": ["0", "00"],
        },
        "policy": {"max_tokens": 4},
        "trainer": {
            "steps": 4,
            "prompts": 3,
            "lr": 1e-3,
            "save_every": 1,
            "eval_every": 2,
            "micro_batch_tokens": 24,
        },
    }
