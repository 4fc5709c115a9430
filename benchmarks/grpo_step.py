"""Seconds a GRPO step of ours beside TRL's GRPOTrainer: same model, prompts, reward and settings.

Each side runs in processes of its own, in turn, so that neither warms the other up; what is printed is
the median step of each and their ratio. 8 prompts x 8 completions of at most 8 tokens that end at a
newline, all weights trained by AdamW, bfloat16 autocast over float32 weights, on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPTS, COMPLETIONS, TOKENS, RATE, WARM_UP = 8, 8, 8, 1e-5, 2


def ours(model: str, steps: int) -> list[float]:
    """Seconds of each step of rl.train."""
    import rl

    config = {
        "model": {"name": model},
        "method": {"kind": "grpo"},
        "source": {"kind": "arithmetic"},
        "rewards": ["first_line_equals"],
        "policy": {"engine": "local", "completions": COMPLETIONS, "max_tokens": TOKENS, "stop": ["\n"]},
        "trainer": {"steps": steps, "prompts": PROMPTS, "lr": RATE, "eval_every": 0, "save_every": steps, "keep": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = rl.train(config, run_dir=Path(folder) / "run", is_quiet=True)
        return [row["seconds"] for row in run.metrics if "reward_mean" in row]


def theirs(model: str, steps: int) -> list[float]:
    """Seconds of each step of trl.GRPOTrainer."""
    import datasets
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from engine.llm.models import model_path
    from rl.rewards import load_reward
    from rl.sources.arithmetic import Arithmetic, ArithmeticConfig

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            ends.append(time.perf_counter())

    path = str(model_path(model))
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(tokenizer("\n")["input_ids"])[0]  # TRL has no stop strings
    source = Arithmetic(ArithmeticConfig(), seed=0)
    rows = [{"prompt": p.prompt, **p.columns} for p in source.train]
    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=PROMPTS * COMPLETIONS,
            num_generations=COMPLETIONS,
            max_completion_length=TOKENS,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            bf16=True,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=steps,
            disable_tqdm=True,
            model_init_kwargs={"dtype": "float32"},
        )
        trainer = GRPOTrainer(
            model=path,
            args=settings,
            reward_funcs=load_reward("first_line_equals").function,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        begun = time.perf_counter()
        trainer.train()
    return [b - a for a, b in zip([begun, *ends], ends, strict=False)]


def measured(side: str, model: str, steps: int, threads: int) -> list[float]:
    """Seconds a step of one side, in a fresh process, without the warm-up."""
    command = [sys.executable, __file__, "--side", side, "--model", model, "--steps", str(steps + WARM_UP)]
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": root, "HF_HUB_OFFLINE": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin make a busy machine measure itself
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return list(json.loads(done.stdout.splitlines()[-1]))[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps((ours if options.side == "ours" else theirs)(options.model, options.steps)))
        return
    seconds: dict[str, list[float]] = {"ours": [], "trl": []}
    for _ in range(options.pairs):
        for side, known in seconds.items():
            known += measured(side, options.model, options.steps, options.threads)
            print(f"{side:5s} {', '.join(f'{s:.2f}' for s in known[-options.steps :])} s", flush=True)
    medians = {side: statistics.median(known) for side, known in seconds.items()}
    for side, known in seconds.items():
        print(f"{side:5s} {medians[side]:6.2f} s a step (median of {len(known)}, {min(known):.2f} to {max(known):.2f})")
    print(f"TRL takes {medians['trl'] / medians['ours']:.2f} times as long")


if __name__ == "__main__":
    main()
