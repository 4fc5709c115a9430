"""Unlearning on a model that was taught invented authors: what is left of its use, by variant and seed.

    python benchmarks/unlearning.py [--model small] [--seeds 0 1 2] [--variants ga npo] [--every 4] [--out FOLDER]
        [--plot FILE.html]

Model utility / probability of an answer to retain, where one to forget has become as unlikely as the column says
(between two evaluations, in proportion to the logarithm of that probability), and after all steps.

  small     two layers, pre-trained here on 20 authors; 120 steps; a minute a seed and core
  smollm2   the embedded model, taught by configs/sft.yaml and made to forget by configs/npo.yaml; some fifteen minutes
            a seed and core

--out keeps the runs: those that the folder holds are left out. --plot writes forget versus retain over the steps, as
SVG in a page.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import engine.report
import rl
from engine.jsonfiles import write_text
from engine.report.chart import Series, line_chart
from engine.report.html import Html, tag
from rl.config import load
from rl.sources.authors import AuthorsConfig, rows

CONFIGS = Path(__file__).parents[1] / "configs"
VARIANTS = ("ga", "grad_diff", "npo", "npo_rt", "npo_kl", "simnpo")
LEVELS = (0.1, 0.01, 0.001)
SET = dict[str, list[dict[str, Any]]]
Runs = dict[tuple[int, str], rl.Run]


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


def taught_embedded(folder: Path, seed: int) -> dict[str, Any]:
    """The config of the embedded model that knows 36 answers about 12 authors; those about two are to be forgotten."""
    sets = [f"seed={seed}", f"source.data_seed={seed}", "source.evaluated=5"]
    run = done(folder / "taught") or rl.train(
        CONFIGS / "sft.yaml", [*sets, "trainer.eval_every=0"], run_dir=folder / "taught", is_quiet=True
    )
    steps = ["trainer.steps=24", "trainer.save_every=24", "trainer.lr=3e-5"]
    return load(CONFIGS / "npo.yaml", [*sets, *steps, f"model.name={run.model_path}"]).resolved()


MODELS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int]] = {
    "small": (taught, 4),
    "smollm2": (taught_embedded, 4),
}
"""name -> what teaches it, and after how many steps it is evaluated each time."""


def done(folder: Path) -> rl.Run | None:
    """The finished run in that folder; None, and no folder, where there is none."""
    if (folder / "status.json").exists() and (run := rl.Run.read(folder)).status == "done":
        return run
    shutil.rmtree(folder, ignore_errors=True)
    return None


def points(run: rl.Run) -> list[tuple[int, dict[str, Any]]]:
    """(step, what was measured) of all evaluations."""
    return [(row["step"], row["eval"]) for row in run.metrics if "eval" in row]


def at_forget_probability(found: Sequence[tuple[float, float]], level: float) -> float | None:
    """The utility where the forget probability falls to that level for the first time; None where it never does.

    found: (forget probability, utility) in the order of the steps. Between two of them the utility is taken to be
    linear in the logarithm of the probability.
    """
    for (before, utility), (after, later) in pairwise(found):
        if after <= level < before:
            share = (math.log(before) - math.log(level)) / (math.log(before) - math.log(max(after, 1e-300)))
            return utility + share * (later - utility)
    return None


def measured(model: str, seeds: Sequence[int], variants: Sequence[str], folder: Path, every: int | None) -> Runs:
    """All runs, each printed when it is there."""
    teach, default = MODELS[model]
    runs: Runs = {}
    for seed in seeds:
        place = folder / f"{model}-{seed}"
        config = None
        for variant in variants:
            run = done(place / variant)
            if run is None:
                config = config or teach(place, seed)
                run = unlearnt(config, variant, place / variant, every=every or default)
                shutil.rmtree(place / variant / "checkpoints")  # gigabytes
            runs[seed, variant] = run
            print(line(seed, variant, run), flush=True)
    return runs


def line(seed: int, variant: str, run: rl.Run) -> str:
    """A row of the table."""
    found = [e for _, e in points(run)]
    forget = [e["forget"]["probability"] for e in found]
    kept = [(e["all"]["model_utility"], e["retain"]["probability"]) for e in found]
    levels = [
        [at_forget_probability(list(zip(forget, values, strict=True)), level) for values in zip(*kept, strict=True)]
        for level in LEVELS
    ]
    cells = [*levels, kept[0], kept[-1]]
    text = "".join(" / ".join("-" if value is None else f"{value:.2f}" for value in cell).rjust(14) for cell in cells)
    return f"{variant:10}{seed:5}{text}{forget[-1]:11.4f}"


def page(runs: Runs) -> str:
    """A chart a seed and quantity, by steps."""
    shown = {"forget probability, log10": ("forget", "probability"), "retain probability": ("retain", "probability"),
             "model utility": ("all", "model_utility")}  # fmt: skip
    charts = []
    for seed in dict.fromkeys(seed for seed, _ in runs):
        for title, (part, name) in shown.items():
            series = []
            for variant in dict.fromkeys(variant for _, variant in runs):
                values = [(step, e[part][name]) for step, e in points(runs[seed, variant])]
                if "log10" in title:
                    values = [(step, math.log10(max(value, 1e-6))) for step, value in values]
                series.append(Series(variant, values))
            charts.append(line_chart(series, title=f"{title}, seed {seed}"))
    style = Html(Path(engine.report.__file__).with_name("style.css").read_text(encoding="utf-8"))
    head = tag("head", tag("meta", charset="utf-8"), tag("title", "Unlearning"), tag("style", style))
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *charts, class_='charts')))}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--every", type=int, help="steps from one evaluation to the next")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = "".join(name.rjust(14) for name in (*(f"p={level:g}" for level in LEVELS), "before", "at the end"))
    print(f"variant   seed {columns}   forget p")
    with tempfile.TemporaryDirectory() as temporary:
        runs = measured(given.model, given.seeds, given.variants, given.out or Path(temporary), given.every)
    if given.plot:
        write_text(given.plot, page(runs))


if __name__ == "__main__":
    main()
