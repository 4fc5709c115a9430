"""Example run folders, written as the documented files."""

from __future__ import annotations

import math
import random

from engine.journal import Journal
from engine.runs import RunFolder, write_json

BEFORE = "Answer the question.\nGive a number."
AFTER = "Work through the question step by step, then give a single number.\nWrite nothing after it."


def optimize_run(path, *, text=lambda kind, plain: plain, steps=24, seed=0):
    """A run of optimize(); text(kind, plain) may replace every text that a model or user wrote."""
    rng = random.Random(seed)
    config = {"optimizer": "optoprime", "seed": seed, "budget": {"evaluations": 96}, "note": text("config", "a note")}
    words = ["carefully", "briefly", "exactly", "only", "please", "number", "answer", "question", "step", "units"]
    with RunFolder.open(path, kind="optimize", config=config) as run, Journal(path / "journal.sqlite") as journal:
        best = current = 0.48
        for step in range(steps):
            for index in range(3):
                accepted = index == 0 and step % 5 == 2
                score = min(0.97, best + 0.06) if accepted else max(0.05, best - rng.random() * 0.4)
                wording = BEFORE.replace("Answer", " ".join(rng.sample(words, 3)).capitalize() + " answer")
                journal.put(
                    "evaluation",
                    f"{step}-{index}",
                    {
                        "step": step,
                        "values": {"instruction": text("value", wording), "threshold": round(rng.random(), 2)},
                        "reason": text("reason", f"The answers were too long, so I ask to {rng.choice(words)}. " * 3),
                        "examples": [1, 2, 3],
                        "scores": [score, score, score],
                        "texts": [text("feedback", "right"), text("feedback", "wrong: expected 4"), None],
                        "outputs": [text("output", "The answer is 4."), text("output", "five"), "4"],
                        "accepted": accepted,
                        "arm": "search",
                    },
                )
                if accepted:
                    best = current = score
            run.log(
                {"step": step, "proposed": 3, "invalid": 0, "duplicates": step % 2, "best_score": best}
                | {"current_score": current, "accepted": step % 5 == 2, "spent": {"evaluations": 3 * step}}
            )
        journal.put("graph", "start", graph(text))
        journal.put(
            "refused", 4, [{"values": text("proposal", "{}"), "reason": text("refusal", "threshold is 3, above 1")}]
        )
        run.finish("done", {"best": best})
    write_json(
        path / "result.json",
        {
            "best": {"instruction": text("value", AFTER), "threshold": 0.7},
            "score": best,
            "baseline": 0.48,
            "validation": {"score": 0.81, "low": 0.74, "high": 0.87, "n": 120, "baseline": 0.52, "baseline_low": 0.43}
            | {"baseline_high": 0.61, "difference": 0.29, "difference_low": 0.19, "difference_high": 0.38},
            "controls": {"random": 0.55, "best_of_n": {"score": 0.66, "low": 0.58, "high": 0.73}, "placebo": 0.51},
            "cost": {
                "calls": 96,
                "prompt_tokens": 123456,
                "completion_tokens": 7890,
                "cost_usd": 0.0421,
                "seconds": 61.2,
            },
            "params": [
                {
                    "name": text("name", "instruction"),
                    "kind": "text",
                    "description": text("description", "system prompt"),
                }
                | {"before": BEFORE, "after": text("value", AFTER), "origin": ["flow.py", 12]},
                {"name": "threshold", "kind": "number", "description": "", "before": 0.5, "after": 0.7, "origin": None},
                {"name": "retries", "kind": "integer", "description": "", "before": 2, "after": 2, "origin": None},
            ],
            "diff": "--- a/flow.py\n+++ b/flow.py\n@@ -12 +12 @@\n-old = 1\n+new = 2  # "
            + text("diff", "comment")
            + "\n",
        },
    )
    return path


def graph(text=lambda kind, plain: plain):
    """A graph as to_json() writes it."""
    rows = [
        ("instruction", "param", text("value", BEFORE), [], text("line", "instruction = 'Answer'")),
        ("question", "input", "What is 2 + 2?", [], "question = 'What is 2 + 2?'"),
        ("ask_1", "call", text("output", "The answer is 4."), ["instruction", "question"], "ask_1 = ask(...)"),
        ("parse_1", "error", text("output", "no number"), ["ask_1"], text("line", "parse_1 = parse(ask_1)")),
    ]
    return {
        "nodes": [
            {"name": name, "op": "op", "kind": kind, "value": value, "parents": parents, "line": line}
            for name, kind, value, parents, line in rows
        ],
        "edges": [[parent, name] for name, _, _, parents, _ in rows for parent in parents],
    }


def rl_run(path, *, text=lambda kind, plain: plain, steps=40, seed=0):
    """A run of rl.train on the addition task."""
    rng = random.Random(seed)
    config = {
        "seed": seed,
        "method": {"kind": "grpo", "note": text("config", "n")},
        "trainer": {"steps": steps, "lr": 1e-5},
    }
    with RunFolder.open(path, kind="rl", config=config) as run:
        run.log({"step": 0, "eval": {"train": {"accuracy": 0.41, "n": 80}, "held_out": {"accuracy": 0.3, "n": 20}}})
        for step in range(1, steps + 1):
            skill = 1 - 0.65 * math.exp(-step / 9)
            reward = min(1.0, max(0.0, skill + rng.gauss(0, 0.05)))
            run.log(
                {"step": step, "reward_mean": reward, "reward_std": 0.3 * (1 - skill), "signal": 1.05 - skill}
                | {"grad_norm": 3 + rng.random(), "loss": rng.gauss(0, 0.02), "tokens": 512 + rng.randrange(60)}
                | {"seconds": 4 + rng.random(), "lr": 1e-5, "kl": 0.0, "entropy": 1.2 - skill, "clip_share": 0.01}
            )
            for _ in range(2):
                a, b = rng.randrange(10), rng.randrange(10)
                right = rng.random() < skill
                run.sample(
                    {"step": step, "prompt": text("prompt", f"2+3=5\n4+4=8\n7+6=13\n{a}+{b}=")}
                    | {
                        "completion": text("completion", f"{a + b if right else a + b + 1}\n9+1=10\n"),
                        "reward": float(right),
                    }
                    | {"truncated": False, text("key", "answer"): text("column", str(a + b))}
                )
            if step % 10 == 0:
                run.log(
                    {"step": step, "eval": {"train": {"accuracy": round(skill, 3), "n": 80}}}
                    | {text("key", "note"): text("metric", "x")}
                )
                (path / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
        run.finish("done", {})
    return path
