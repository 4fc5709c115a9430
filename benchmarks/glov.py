"""GLOV's guidance, measured on SmolLM2-135M and sentences rated by people.

    python benchmarks/glov.py [effect] [--draws 24] [--alphas 0.2] [--depth 0.4] [--sentences amazon movie nyt tweets]
    python benchmarks/glov.py runs [--seeds 0 1 2 3 4 5] [--arms off embedding text] [--evaluations 48] [--out FILE]

effect: how much an offset changes the mean log-probability per token (nats) of held-out positive sentences
minus that of held-out negative ones, and that of neutral sentences. The offset is from the mean of 8 drawn negative
sentences to that of 8 positive ones; `reversed` is its opposite, `random` a Gaussian one of its length. Every
position is steered, as in mode "sticky". Mean over the draws with its 95 % bootstrap interval.
runs: whole searches for the two class texts of agents/classifier.py, with equal evaluations; guidance begins with
the first scores told, so an arm's first step is that of the others with its seed. Differences are paired by seed.
--out keeps the rows: those that it holds are left out.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine import Budget, gallery, optimize
from engine.acceptance import bootstrap_interval
from engine.llm import CachedLLM, LocalLLM
from engine.llm.residual import added, decoder_layer, offset_of
from engine.llm.steering import Steering

HELD_OUT = 20
NEUTRAL = 0.3
SHORT = {"candidates": 8, "explore": 8, "max_tokens": 24}
"""Options of all arms; fewer tokens than the defaults, for one core."""
Row = dict[str, Any]


def sentences(of: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """By class: those that offsets are made of, and those that are scored, neutral ones among them."""
    ratings = gallery.load("agents/classifier.py:ratings")(of)
    halves = [gallery.load(f"agents/classifier.py:{name}")(of) for name in ("fitness", "held_out")]
    drawn, scored = (
        {"positive": [s for s in half if ratings[s] > 0], "negative": [s for s in half if ratings[s] < 0]}
        for half in halves
    )
    scored["neutral"] = [s for s, rating in ratings.items() if abs(rating) <= NEUTRAL]
    rng = random.Random(0)
    return drawn, {name: rng.sample(texts, HELD_OUT) for name, texts in scored.items()}


@torch.inference_mode()
def log_probability(llm: LocalLLM, texts: Sequence[str]) -> float:
    """Mean over the texts of their mean log-probability per token, the first token not scored."""
    rows = sorted((llm.tokenizer.encode(text, add_special_tokens=False) for text in texts), key=len)
    found = []
    for start in range(0, len(rows), 8):
        part = rows[start : start + 8]
        ids = torch.zeros(len(part), max(map(len, part)), dtype=torch.long)
        for place, row in enumerate(part):
            ids[place, : len(row)] = torch.tensor(row)  # padded on the right, where it is not seen
        logprobs = llm.model(ids, use_cache=False).logits.log_softmax(-1)
        picked = logprobs[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
        found += [float(picked[place, : len(row) - 1].mean()) for place, row in enumerate(part)]
    return sum(found) / len(found)


def effect(llm: LocalLLM, of: str, draws: int, alphas: Sequence[float], depth: float) -> None:
    layer = decoder_layer(llm.model, depth)
    drawn, scored = sentences(of)

    def levels(offset: torch.Tensor) -> tuple[float, ...]:
        """Positive minus negative, and neutral."""
        with added(layer, offset, start=0):
            each = {name: log_probability(llm, texts) for name, texts in scored.items()}
        return each["positive"] - each["negative"], each["neutral"]

    plain = levels(torch.zeros(llm.model.config.hidden_size))
    for alpha in alphas:
        rows: dict[str, list[tuple[float, ...]]] = {"steered": [], "reversed": [], "random": []}
        for draw in range(draws):
            rng, noise = random.Random(draw), torch.Generator().manual_seed(draw)
            steering = Steering(tuple(rng.sample(drawn["positive"], 8)), tuple(rng.sample(drawn["negative"], 8)), depth)
            offset = offset_of(llm.model, llm._encode, replace(steering, alpha=alpha))
            direction = torch.randn(offset.shape, generator=noise)
            for name, used in (
                ("steered", offset),
                ("reversed", -offset),
                ("random", direction * (offset.norm() / direction.norm())),
            ):
                rows[name].append(tuple(a - b for a, b in zip(levels(used), plain, strict=True)))
        print(f"{of}, alpha {alpha:g}, depth {depth:g}, {draws} draws      positive - negative              neutral")
        for name, found in rows.items():
            print(f"  {name:26}", *(interval(column) for column in zip(*found, strict=True)), sep="  ", flush=True)


def run(arm: str, seed: int, evaluations: int, record: Path) -> Row:
    """One search; held-out accuracy of the start and of the best, and how the new values were written.

    record: of the proposer's calls; arms of a seed that ask the same get the same answers, and wait once.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        CachedLLM(LocalLLM("smollm2-135m", seed=seed), record) as llm,
    ):
        result = optimize(
            gallery.load("agents/classifier.py:classify"),
            gallery.load("agents/classifier.py:fitness")(),
            validation=gallery.load("agents/classifier.py:held_out")(),
            feedback=gallery.load("agents/classifier.py:score"),
            optimizer={"kind": "glov", **SHORT, **OPTIONS[arm]},
            llm=llm,
            budget=Budget(evaluations=evaluations, invalid=4 * evaluations),
            workers=1,
            run_dir=Path(folder) / arm,
            seed=seed,
        )
    result.reset("before")
    written: dict[str, list[float]] = {}
    for evaluation in result.history[1:]:
        written.setdefault(evaluation.candidate.reason, []).append(evaluation.score)
    return {
        "arm": arm,
        "seed": seed,
        "start": result.validation.baseline.score,
        "fitness": result.score,
        "held_out": result.validation.best.score,
        "written": {reason: [len(scores), sum(scores) / len(scores)] for reason, scores in written.items()},
        "tokens": result.cost.prompt_tokens + result.cost.completion_tokens,
        "seconds": result.cost.seconds,
        "best": dict(result.best),
    }


OPTIONS = {
    "off": {"guidance": "off"},
    "embedding": {"guidance": "embedding", "begin": "scores"},
    "ungated": {"guidance": "embedding", "begin": "scores", "gate": False},
    "single": {"guidance": "embedding", "begin": "scores", "gate": False, "pool": "single", "depth": 0.55},
    "text": {"guidance": "text", "begin": "scores"},
}


def runs(seeds: Sequence[int], arms: Sequence[str], evaluations: int, out: Path | None) -> None:
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out and out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for arm in arms:
                if any((row["seed"], row["arm"]) == (seed, arm) for row in rows):
                    continue
                rows.append(run(arm, seed, evaluations, Path(folder) / f"{seed}.sqlite"))
                print(json.dumps(rows[-1]), flush=True)
                if out:
                    with out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    plain = {row["seed"]: row for row in rows if row["arm"] == "off"}
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm]
        print(f"{arm}: {len(own)} seeds, {sum(r['tokens'] for r in own) / len(own):.0f} tokens a run")
        for key in ("fitness", "held_out"):
            paired = [row[key] - plain[row["seed"]][key] for row in own if row["seed"] in plain]
            told = f"  over off {interval(paired)}" if arm != "off" and paired else ""
            print(f"  {key:9} {interval([row[key] for row in own])}{told}")


def interval(values: Sequence[float]) -> str:
    found = bootstrap_interval(list(values))
    return f"{found.score:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", nargs="?", choices=("effect", "runs"), default="effect")
    options.add_argument("--draws", type=int, default=24)
    options.add_argument("--alphas", type=float, nargs="+", default=[0.2])
    options.add_argument(
        "--sentences", nargs="+", default=["amazon"], choices=gallery.load("agents/classifier.py:SETS")
    )
    options.add_argument("--depth", type=float, default=0.4)
    options.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    options.add_argument("--arms", nargs="+", choices=OPTIONS, default=["off", "embedding", "text"])
    options.add_argument("--evaluations", type=int, default=48)
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    if asked.what == "effect":
        llm = LocalLLM("smollm2-135m")
        for of in asked.sentences:
            effect(llm, of, asked.draws, asked.alphas, asked.depth)
    else:
        runs(asked.seeds, asked.arms, asked.evaluations, asked.out)


if __name__ == "__main__":
    main()
