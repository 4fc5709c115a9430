"""Unlearning on a small model that was taught invented authors: what is left of its use, by variant and seed.

    python benchmarks/unlearning.py

The model utility (before: 0.84) where an answer to forget has become as unlikely as the column says, and after 120
steps. A minute a seed and core.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import rl
from rl.sources.authors import AuthorsConfig, rows

SEEDS = (0, 1, 2)
VARIANTS = ("ga", "grad_diff", "npo", "npo_rt", "npo_kl", "simnpo")
LEVELS = (0.1, 0.02)
SET = dict[str, list[dict[str, Any]]]


def texts(sets: SET) -> list[str]:
    columns = ("question", "answer")
    return [
        text
        for part in sets.values()
        for row in part
        for text in (*(row[c] for c in columns), *row["perturbed_answer"])
    ]


def save_untaught(sets: SET, folder: Path, seed: int) -> None:
    """A random two-layer Llama over the words of the sets, and its tokenizer."""
    words = sorted({word for text in texts(sets) for word in re.findall(r"\w+|[^\w\s]", text)})
    vocabulary = {word: i for i, word in enumerate(["<eos>", "<unk>", *words])}
    by_word = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    by_word.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=by_word, eos_token="<eos>", unk_token="<unk>")
    tokenizer.pad_token = "<eos>"
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            eos_token_id=0,
            bos_token_id=None,
            pad_token_id=0,
            tie_word_embeddings=True,
        )
        LlamaForCausalLM(config).save_pretrained(folder)


def taught(folder: Path, seed: int) -> dict[str, Any]:
    """A config whose model knows 80 answers about 20 authors by heart; those about two are to be forgotten."""
    sets = {
        name: part
        for name, part in rows(AuthorsConfig(data_seed=seed, paraphrased=False)).items()
        if name in ("forget", "retain")
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_untaught(sets, folder, seed)
    for name, part in sets.items():
        lines = [json.dumps(row) + "\n" for row in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    source = {name: str(folder / f"{name}.jsonl") for name in sets}
    config: dict[str, Any] = {
        "seed": seed,
        "model": {"name": str(folder), "autocast": "none"},
        "method": {"kind": "sft"},
        "source": {"kind": "unlearning", "template": "{question}", **source},
        "policy": {"max_tokens": 16},
        "trainer": {"steps": 250, "prompts": 32, "lr": 3e-3, "schedule": "linear", "save_every": 250, "eval_every": 0},
    }
    run = rl.train(config, run_dir=folder / "taught", is_quiet=True)
    config["model"] = {"name": str(run.model_path), "autocast": "none"}
    config["trainer"] = {"steps": 120, "prompts": 2, "lr": 1e-4, "clip_grad_norm": 1e6, "save_every": 120}
    return config


def unlearnt(config: dict[str, Any], variant: str, folder: Path, *overrides: str, every: int = 120) -> rl.Run:
    """A run of that variant of NPO, evaluated at first and every so many steps."""
    changes = [f"trainer.eval_every={every}", *overrides]
    return rl.train(config | {"method": {"kind": "npo", "variant": variant}}, changes, run_dir=folder, is_quiet=True)


def at_forget_probability(run: rl.Run, probability: float) -> float | None:
    """The model utility at the first evaluation whose forget probability is at most that; None where none is."""
    found = [row["eval"] for row in run.metrics if "eval" in row]
    utilities = [e["all"]["model_utility"] for e in found if e["forget"]["probability"] <= probability]
    return utilities[0] if utilities else None


def main() -> None:
    torch.set_num_threads(1)
    print(
        "variant    seed  "
        + "".join(f"utility at p<={p:<6g}" for p in LEVELS)
        + "at the end: utility  forget p  retain p"
    )
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            config = taught(Path(folder), seed)
            for variant in VARIANTS:
                run = unlearnt(config, variant, Path(folder) / variant, every=4)
                levels = [at_forget_probability(run, level) for level in LEVELS]
                cells = "".join(f"{'-' if level is None else format(level, '.2f'):>18}" for level in levels)
                end = run.evaluation
                last = f"{end['all']['model_utility']:20.2f}{end['forget']['probability']:10.3f}"
                print(f"{variant:10}{seed:5}{cells}{last}{end['retain']['probability']:10.2f}", flush=True)


if __name__ == "__main__":
    main()
