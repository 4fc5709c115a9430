"""A tiny model that has learnt to propose one-line functions, so that self-play has something to play with."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rl.triplets import FORMS, Triplet

LINE = FORMS["line"]

CHARACTERS = "\n 0123456789#(),:=abdefimnprstux"
BODIES = "x0123"
SEEDS = (("x", 3), ("7", 9), ("max(x, 5)", 1), ("min(x, 4)", 6))


@pytest.fixture(scope="session")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer Llama over characters that mostly answers a request for a proposal with a valid one."""
    folder = tmp_path_factory.mktemp("proposer")
    vocabulary = {token: i for i, token in enumerate(["<eos>", "<unk>", *CHARACTERS])}
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
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            eos_token_id=0,
            bos_token_id=None,
            pad_token_id=0,
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # so that the same model is taught everywhere
        teach(model, tokenizer)
        torch.set_num_threads(threads)
        model.save_pretrained(folder)
    (folder / "held_out.jsonl").write_text(
        "".join(json.dumps({"program": f"def f(x): return {k}", "inputs": ["1"]}) + "\n" for k in (4, 8))
    )
    return folder


def teach(model: Any, tokenizer: Any) -> None:
    """Some steps on requests with the line that should follow: a body and an input, or a digit that may be right."""
    draws, optimizer = random.Random(0), torch.optim.AdamW(model.parameters(), lr=1e-2)
    shown = [Triplet("deduction", f"def f(x): return {body}", (str(given),), "", ("7",)) for body, given in SEEDS]
    for _ in range(80):
        lines = [
            (
                LINE.propose("deduction", draws.sample(shown, 2), "", 1),
                f" {draws.choice(BODIES)} # f({digit(draws)})\n",
            ),
            (
                LINE.propose("deduction", draws.sample(shown, 2), "", 1),
                f" {draws.choice(BODIES)} # f({digit(draws)})\n",
            ),
            (LINE.solve(draws.choice(shown)), f" {digit(draws)}\n"),
        ]
        rows = [(tokenizer(request)["input_ids"], tokenizer(answer)["input_ids"]) for request, answer in lines]
        longest = max(len(a) + len(b) for a, b in rows)
        ids = torch.tensor([a + b + [0] * (longest - len(a) - len(b)) for a, b in rows])
        labels = torch.tensor([[-100] * len(a) + b + [-100] * (longest - len(a) - len(b)) for a, b in rows])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def digit(draws: random.Random) -> int:
    return draws.randrange(4)  # of few, so that many a guess is right


@pytest.fixture
def self_play(proposer: Path) -> dict[str, Any]:
    """A training config in which that model proposes and solves."""
    return {
        "model": {"name": str(proposer), "autocast": "none"},
        "method": {"kind": "azr", "samples": 4, "replay": 1},
        "source": {
            "kind": "triplets",
            "form": "line",
            "chat": False,
            "tasks": ["deduction", "abduction"],
            "references": 2,
            "seeds": [{"program": f"def f(x): return {body}", "inputs": [str(given)]} for body, given in SEEDS],
            "held_out": str(proposer / "held_out.jsonl"),
        },
        "rewards": ["triplet"],
        "policy": {"engine": "local", "completions": 4, "max_tokens": 14, "stop": ["\n"]},
        "trainer": {
            "steps": 6,
            "prompts": 2,
            "lr": 1e-3,
            "save_every": 1,
            "eval_every": 2,
            "micro_batch_tokens": 2000,
            "iterations": 2,
        },
    }
