"""Tokens a second of the in-process policy beside transformers' generate, on the same model and prompts.

    python benchmarks/generation.py [MODEL]          (default smollm2-135m)

Both sample 8 completions of each of 8 prompts at temperature 1. Each case is run once to warm up,
then timed in turns; the median counts. A generated token is one that ends up in a completion:
transformers goes on with finished rows until the last one is done, and forwards a prompt once a
completion.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from engine.llm.models import model_path
from rl.policies import encode_prompt
from rl.policies.local import LocalPolicy
from rl.types import Request

COMPLETIONS, ROUNDS = 8, 3
PAIRS = ((1, 2), (3, 9), (8, 8), (0, 4), (5, 7), (9, 9), (6, 1), (2, 2))
TOPICS = ("rivers", "bread", "the moon", "old maps", "a small dog", "rain", "trains at night", "tea")
ADDITION = [f"2+3=5\n4+4=8\n7+6=13\n{a}+{b}=" for a, b in PAIRS]
STORIES = [f"Write a few sentences about {topic}.\n" * 6 for topic in TOPICS]
CASES: list[tuple[str, list[str], int, tuple[str, ...]]] = [
    ("addition, 8 tokens", ADDITION, 8, ()),
    ("addition, to the end of the line", ADDITION, 8, ("\n",)),
    ("stories, 32 tokens", STORIES, 32, ()),
]


def ours(model: Any, tokenizer: Any, prompts: list[str], tokens: int, stop: tuple[str, ...], autocast: str) -> int:
    """Tokens in the completions that the policy made."""
    ids = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    requests = [Request(p, COMPLETIONS, tokens, seed=i, stop=stop) for i, p in enumerate(ids)]
    groups = LocalPolicy(model, tokenizer, autocast=autocast).generate(requests)
    return sum(len(rollout.completion_ids) for group in groups for rollout in group)


def theirs(model: Any, tokenizer: Any, prompts: list[str], tokens: int, stop: tuple[str, ...], autocast: str) -> int:
    """Tokens in the completions that transformers made, without padding."""
    model.eval()
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    options = {"stop_strings": list(stop), "tokenizer": tokenizer} if stop else {}
    # no_grad around it, because autocast casts the weights anew at every step without.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast != "none"):
        output = model.generate(
            **batch, do_sample=True, num_return_sequences=COMPLETIONS, max_new_tokens=tokens, top_k=0, **options
        )
    made = output[:, batch["input_ids"].shape[1] :]
    return int((made != tokenizer.pad_token_id).sum())


def rate(run: Callable[[], int]) -> tuple[float, float]:
    """(seconds, tokens a second) of one run."""
    start = time.perf_counter()
    tokens = run()
    seconds = time.perf_counter() - start
    return seconds, tokens / seconds


def main() -> None:
    """Print one line a case."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.manual_seed(0)
    path = model_path(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path)
    print(f"{COMPLETIONS} completions of each of 8 prompts, {torch.get_num_threads()} threads, median of {ROUNDS}")
    print(f"{'case':34} {'compute':9} {'ours':>20} {'transformers':>20} {'ratio':>6}")
    for autocast in ("none", "bfloat16"):
        for name, prompts, tokens, stop in CASES:
            given = (model, tokenizer, prompts, tokens, stop, autocast)
            runs = {"ours": lambda given=given: ours(*given), "theirs": lambda given=given: theirs(*given)}
            measured = {key: [] for key in runs}
            for turn in range(ROUNDS + 1):
                for key, run in runs.items():
                    result = rate(run)
                    if turn:
                        measured[key].append(result)
            (s1, r1), (s2, r2) = (
                tuple(statistics.median(x) for x in zip(*measured[key], strict=True)) for key in ("ours", "theirs")
            )
            compute = "float32" if autocast == "none" else autocast
            print(f"{name:34} {compute:9} {s1:6.2f} s {r1:7.0f} tok/s {s2:6.2f} s {r2:7.0f} tok/s {r1 / r2:6.2f}")


if __name__ == "__main__":
    main()
