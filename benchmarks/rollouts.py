"""Rollouts a second of the same requests: our policies, vLLM alone, and transformers alone.

    .venv-vllm/bin/python benchmarks/rollouts.py [--prompts 32] [--completions 8] [--tokens 64] [--dtype bfloat16]

Five arms, one after the other, each warmed up by the whole batch and then timed three times; the median
counts. vLLM's own arm is `vllm.LLM.generate` in a process of its own, with the same sampling parameters (seeds and
log-probs too). Completions run to the limit in every arm, so all make the same number of tokens.
Without vLLM installed only the local policy and transformers are measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from engine.llm.models import model_path
from rl.policies._vllm.launch import server_command
from rl.policies._vllm.settings import VllmConfig
from rl.policies.local import LocalPolicy
from rl.types import Request

VLLM_ARMS = ("vllm.LLM.generate", "policy, colocated", "policy, server")
LOG = Path(os.environ.get("BENCH_LOG", os.devnull))
ARMS = (*VLLM_ARMS, "policy, local", "transformers.generate")


def requests_of(arguments: argparse.Namespace, tokenizer: Any) -> list[Request]:
    """Sums after three examples: as in the addition task, with prompts that differ."""
    texts = [f"2+3=5\n4+4=8\n7+6=13\n{i % 97}+{i % 89}=" for i in range(arguments.prompts)]
    return [
        Request(tuple(tokenizer(text)["input_ids"]), arguments.completions, arguments.tokens, seed=1000 + 100 * i)
        for i, text in enumerate(texts)
    ]


def seconds(work: Callable[[], int]) -> tuple[float, int]:
    """The median time of the work, and the tokens that it made."""
    work()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        tokens = work()
        times.append(time.perf_counter() - started)
    return statistics.median(times), tokens


def policy_arm(arm: str, arguments: argparse.Namespace) -> tuple[float, int]:
    """One of our policies. No token ends a completion."""
    path = str(model_path(arguments.model))
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    requests = requests_of(arguments, tokenizer)
    autocast = None if arguments.dtype == "float32" else arguments.dtype
    if arm == "policy, local":
        policy: Any = LocalPolicy(model, tokenizer, autocast=autocast)
        policy.end_ids = frozenset()
    else:
        from rl.policies.vllm import VllmPolicy

        deployment: Any = "server" if arm.endswith("server") else "colocated"
        settings = VllmConfig(deployment=deployment, context=512, port=arguments.port)
        policy = VllmPolicy(model, tokenizer, model_path=path, autocast=autocast, settings=settings, log=LOG)
        policy.backend.trainer.end_ids = frozenset()
        without_end(policy)
        policy.sync(model, 1)
    with policy:
        return seconds(lambda: sum(len(r.completion_ids) for g in policy.generate(requests) for r in g))


def without_end(policy: Any) -> None:
    """Have vLLM go on behind the end token, which only the benchmark wants."""
    from rl.policies._vllm import colocated, payload, served

    real_sampling, real_body = payload.sampling_of, payload.completion_body
    colocated.sampling_of = lambda *a: real_sampling(*a) | {"ignore_eos": True}
    served.completion_body = lambda *a: real_body(*a) | {"ignore_eos": True}


def vllm_arm(arguments: argparse.Namespace) -> tuple[float, int]:
    from vllm import LLM, SamplingParams

    path = str(model_path(arguments.model))
    requests = requests_of(arguments, AutoTokenizer.from_pretrained(path))
    llm = LLM(
        model=path,
        dtype=arguments.dtype,
        max_model_len=512,
        enforce_eager=not torch.cuda.is_available(),
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        disable_log_stats=True,
    )
    prompts = [{"prompt_token_ids": list(r.prompt_ids)} for r in requests]
    params = [
        SamplingParams(n=r.n, max_tokens=r.max_tokens, seed=r.seed, logprobs=0, ignore_eos=True) for r in requests
    ]

    def work() -> int:
        outputs = llm.generate(prompts, params, use_tqdm=False)
        return sum(len(o.token_ids) for output in outputs for o in output.outputs)

    return seconds(work)


def transformers_arm(arguments: argparse.Namespace) -> tuple[float, int]:
    path = str(model_path(arguments.model))
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, arguments.dtype)).eval()
    requests = requests_of(arguments, tokenizer)
    batch = tokenizer.pad({"input_ids": [list(r.prompt_ids) for r in requests]}, return_tensors="pt")

    def work() -> int:
        with torch.no_grad():
            output = model.generate(
                **batch,
                do_sample=True,
                top_k=0,
                max_new_tokens=arguments.tokens,
                min_new_tokens=arguments.tokens,
                num_return_sequences=arguments.completions,
            )
        return int(output.shape[0]) * arguments.tokens

    return seconds(work)


def run_arm(arguments: argparse.Namespace) -> None:
    """One arm, in this process; prints JSON as its last line."""
    torch.manual_seed(0)
    logging.disable_progress_bar()
    if arguments.arm == "vllm.LLM.generate":
        result = vllm_arm(arguments)
    elif arguments.arm == "transformers.generate":
        result = transformers_arm(arguments)
    else:
        result = policy_arm(arguments.arm, arguments)
    print(json.dumps({"seconds": result[0], "tokens": result[1]}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--port", type=int, default=8077)
    parser.add_argument("--arm", choices=ARMS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    arguments = parser.parse_args()
    if arguments.arm:
        run_arm(arguments)
        return
    has_vllm = importlib.util.find_spec("vllm") is not None
    rates: dict[str, float] = {}
    print(f"{arguments.prompts} prompts x {arguments.completions} completions x {arguments.tokens} tokens")
    for arm in arguments.arms:
        if arm in VLLM_ARMS and not has_vllm:
            print(f"{arm:24} vLLM is not installed here (make test-vllm)")
            continue
        environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
        if arm == "policy, colocated":  # the trainer's own threads stay free
            environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        elif arm in VLLM_ARMS:  # the same threads for vLLM alone as for our server
            environment |= server_command("", VllmConfig(), dtype=arguments.dtype).environment
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--arm", arm], env=environment, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f"{arm} failed with exit code {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
        rates[arm] = found["tokens"] / found["seconds"]
        share = f"{rates[arm] / rates[VLLM_ARMS[0]]:6.0%} of vLLM" if VLLM_ARMS[0] in rates else ""
        print(f"{arm:24} {rates[arm]:8.0f} tokens/s  {found['seconds']:6.1f} s  {share}", flush=True)


if __name__ == "__main__":
    main()
