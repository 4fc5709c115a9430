"""Forward + backward of completion log-probs: prefix tree against padded rows, in time and memory.

    python benchmarks/shared_prefix.py [--model PATH] [--threads N] [--repeats N]

Each measurement is a process of its own, so that its peak memory is its own. Needs the embedded model
(`engine model pull smollm2-135m`) or a path.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import subprocess
import sys
import time

import torch
from transformers import AutoModelForCausalLM

from engine.llm.models import model_path
from rl.ops.layout import tree_size
from rl.ops.tokens import groups_logprobs

# name: (prompts, tokens that all prompts begin with, prompt tokens, completions, completion tokens)
TASKS = {
    "one group": (1, 0, 25, 8, 16),
    "one group, long prompt": (1, 0, 512, 8, 16),
    "arithmetic step": (8, 19, 25, 8, 5),
    "unlike groups": (8, 0, 25, 8, 16),
    "unlike groups, long prompts": (2, 0, 512, 8, 16),
}


def groups(prompts: int, common: int, prompt_tokens: int, completions: int, tokens: int) -> tuple[list, list]:
    """Random ids; the first token of a completion is one of four, as an answer's is."""
    source = random.Random(0)

    def ids(n: int) -> list[int]:
        return [source.randrange(100, 40000) for _ in range(n)]

    stem = ids(common)
    return (
        [stem + ids(prompt_tokens - common) for _ in range(prompts)],
        [[[source.randrange(100, 104), *ids(tokens - 1)] for _ in range(completions)] for _ in range(prompts)],
    )


def measure(model_name: str, task: str, mode: str, precision: str, threads: int, repeats: int) -> dict[str, float]:
    """Least seconds of forward + backward, and MiB that they add to the peak."""
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
    prompt_ids, completion_ids = groups(*TASKS[task])
    is_half = precision == "bfloat16"

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16) if is_half else contextlib.nullcontext():
            logprobs = groups_logprobs(model, prompt_ids, completion_ids, mode=mode)
        logprobs.mean().backward()

    model(torch.tensor([[1, 2]])).logits.sum().backward()  # gradients exist before the peak is read
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": min(seconds[1:]), "mib": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = arguments.model or str(model_path("smollm2-135m"))
    if arguments.child:
        print(json.dumps(measure(model, *arguments.child, arguments.threads, arguments.repeats)))
        return
    print(f"{'task':<28} {'precision':<9} {'tokens':>12} {'seconds':>13} {'ratio':>6} {'MiB':>12}   (tree / rows)")
    for task in arguments.tasks:
        for precision in ("float32", "bfloat16"):
            tree, rows = (_child(arguments, model, task, mode, precision) for mode in ("shared", "plain"))
            prompt_ids, completion_ids = groups(*TASKS[task])
            pairs = [(p, o) for p, group in zip(prompt_ids, completion_ids, strict=True) for o in group]
            tokens = f"{tree_size(pairs)} / {sum(len(p) + len(o) for p, o in pairs)}"
            times, mib = (f"{tree[k]:.{d}f} / {rows[k]:.{d}f}" for k, d in (("seconds", 2), ("mib", 0)))
            ratio = rows["seconds"] / tree["seconds"]
            print(f"{task:<28} {precision:<9} {tokens:>12} {times:>13} {ratio:>6.2f} {mib:>12}", flush=True)


def _child(arguments: argparse.Namespace, model: str, task: str, mode: str, precision: str) -> dict[str, float]:
    settings = ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats), "--model", model]
    command = [sys.executable, __file__, *settings, "--child", task, mode, precision]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
