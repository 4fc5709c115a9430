"""A real vLLM server for a session, and a model small enough to be served in seconds.

The model is a random Llama with tied weights in float32; its context is longer than a block of vLLM's prefix cache.
"""

from __future__ import annotations

import contextlib
import copy
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rl.policies._vllm.endpoint import Endpoint
from rl.policies._vllm.launch import OwnServer, server_command
from rl.policies._vllm.settings import VllmConfig
from rl.policies.vllm import VllmPolicy

CONTEXT = 320
KEY = "not-so-secret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def changed(model: Any, seed: int, share: float = 0.2) -> Any:
    """A copy with other weights: noise of `share` of each matrix's own spread, the embedding's too."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight += torch.randn(weight.shape, generator=generator) * share * weight.std()
    return model


@contextlib.contextmanager
def serving(model: Path, log: Path, *arguments: str, lora_rank: int = 0, dtype: str = "float32") -> Iterator[OwnServer]:
    """A server of the model, healthy; its process group is gone afterwards."""
    settings = VllmConfig(port=free_port(), context=CONTEXT, arguments=arguments)
    command = server_command(str(model), settings, dtype=dtype, lora_rank=lora_rank)
    server = OwnServer(command, settings, log, print)
    try:
        server.start()
        server.wait(Endpoint(server.url))
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session", autouse=True)
def _small_cache() -> Iterator[None]:
    """One GiB of keys and values is plenty."""
    before = os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    yield
    if before is None:
        del os.environ["VLLM_CPU_KVCACHE_SPACE"]
    else:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = before


@pytest.fixture(scope="session")
def tokenizer(tokenizer: Any) -> Any:
    """One token a byte, 256 is the end; and a chat template, which vLLM's chat endpoint wants."""
    made = copy.deepcopy(tokenizer)
    made.chat_template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    return made


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """The folder of the model that is served."""
    folder = tmp_path_factory.mktemp("tiny-vllm")
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=257,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            initializer_range=0.15,
            eos_token_id=256,
            pad_token_id=256,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tiny: Path) -> Any:
    """The served model in the trainer's hands, in training mode; tests change copies of it."""
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).train()


@pytest.fixture(scope="session")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """The server that most tests share. It wants KEY."""
    with serving(tiny, tmp_path_factory.mktemp("server") / "vllm.log", "--api-key", KEY) as server:
        yield server


Policy = Callable[..., VllmPolicy]


@pytest.fixture
def policy(base: Any, tokenizer: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Policy]:
    """Makes policies on given servers; they are closed afterwards."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with contextlib.ExitStack() as stack:

        def made(
            *urls: str,
            model: Any = None,
            served: str | None = None,
            say: Callable[[str], None] = print,
            **settings: Any,
        ) -> VllmPolicy:
            options = {
                "model": served,
                "start_timeout_s": 20,
                "restart_timeout_s": 20,
                "request_timeout_s": 60,
            } | settings
            built = VllmPolicy(
                base if model is None else model,
                tokenizer,
                model_path=str(tiny),
                settings=VllmConfig(servers=urls, **options),
                say=say,
            )
            stack.callback(built.close)
            return built

        yield made


REWARD = """
import os, pathlib, signal
def letters(prompts, completions, completion_ids, **columns):
    victim = pathlib.Path({victim!r})
    if victim.is_file():  # how many completions more until that process group dies
        left, group = map(int, victim.read_text().split())
        victim.write_text(f"{{left - len(completions)}} {{group}}")
        if left <= len(completions):
            victim.unlink()
            os.killpg(group, signal.SIGKILL)
    reward = [sum(c.isalpha() for c in text) / 6 for text in completions]
{then}    return reward
"""


@pytest.fixture
def config(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run of four steps that is paid for letters; a file `victim` in tmp_path has its reward kill a server."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    (tmp_path / "rewards.py").write_text(REWARD.format(victim=str(tmp_path / "victim"), then=""), encoding="utf-8")
    return {
        "model": {"name": str(tiny), "autocast": "none"},
        "method": {"kind": "grpo"},
        "source": {"kind": "arithmetic", "max_operand": 4, "shots": 1, "held_out": 5},
        "rewards": [f"{tmp_path}/rewards.py:letters"],
        "policy": {"engine": "vllm", "completions": 8, "max_tokens": 6},
        "trainer": {"steps": 4, "prompts": 4, "lr": 5e-3, "save_every": 1, "eval_every": 0, "samples": 4},
    }


def on(config: dict[str, Any], server: OwnServer, **policy: Any) -> dict[str, Any]:
    """The config with that server's address and other values of its policy section."""
    timeouts = {"start_timeout_s": 200, "restart_timeout_s": 200}
    settings = {"servers": [server.url]} | timeouts | policy.pop("vllm", {})
    return config | {"policy": config["policy"] | policy | {"vllm": settings}}
