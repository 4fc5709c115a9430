"""A small transformer that can add column by column, and does so only when it is told to.

model() -> its folder, in Hugging Face format; 340,000 weights, pre-trained on first use in about four minutes

It learns from texts of agents/long_addition.py. Sums of two digits are worked out; sums of three are guessed at a
glance, unless a hint stands before them: the more a hint says, the oftener they are worked out. How seldom that
happens without a hint is set by HABIT. This is the learning cliff of configs/scaf_grpo.yaml.
"""

from __future__ import annotations

import random
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine import gallery
from engine.llm.models import home

STEPS, ROWS, RATE = 900, 64, 3e-3
HABIT = -12.0
"""log p that a sum of three digits is worked out without a hint."""
OFTEN = {"knowledge_components_parts": 0.1, "planning_skeleton_parts": 0.3, "solution_breakdown_parts": 0.6}
"""How often it is worked out under the first part of a tier; half as much again for each further part."""


def model() -> Path:
    """The model's folder in the cache."""
    folder = home() / "models" / "adder-1"
    if not folder.is_dir():
        print(f"pre-training {folder}, {STEPS} steps: a few minutes", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="adder-1.part-", dir=folder.parent) as part, torch.random.fork_rng():
            torch.manual_seed(0)
            pretrain(Path(part) / "model")
            if not folder.is_dir():
                shutil.move(Path(part) / "model", folder)
    return folder


def pretrain(folder: Path) -> None:
    """Train on fresh texts at every step, and save."""
    tokenizer = characters_and_words()
    sizes = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4)
    special = dict(eos_token_id=0, bos_token_id=None, pad_token_id=0)
    network = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes, **special)
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min((i + 1) / 50, max(0.02, 1 - i / STEPS)))
    rng = random.Random("adder")
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(network, tokenizer, [text(rng) for _ in range(ROWS)]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    tokenizer.save_pretrained(folder)
    network.save_pretrained(folder)


def loss_of(network: Any, tokenizer: Any, texts: list[tuple[str, str, bool]]) -> torch.Tensor:
    """Cross-entropy of the completions, and the squared distance of the habit from HABIT."""
    pairs = [(tokenizer(prompt)["input_ids"], tokenizer(completion)["input_ids"]) for prompt, completion, _ in texts]
    width = max(len(p) + len(c) for p, c in pairs)
    ids = torch.tensor([p + c + [0] * (width - len(p) - len(c)) for p, c in pairs])
    labels = torch.tensor([[-100] * len(p) + c + [-100] * (width - len(p) - len(c)) for p, c in pairs])
    logits = network(input_ids=ids).logits
    fit = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    bare = [(row, len(pairs[row][0]) - 1) for row, (_, _, is_bare) in enumerate(texts) if is_bare]
    rows, places = torch.tensor(bare).T
    habit = logits[rows, places].log_softmax(-1)[:, tokenizer.convert_tokens_to_ids("work")]
    return fit + 0.05 * (habit - HABIT).square().mean()


def text(rng: random.Random) -> tuple[str, str, bool]:
    """A prompt, its completion, and whether it is a sum of three digits without a hint."""
    kind, tier, level = rng.random(), rng.choice(list(OFTEN)), rng.randint(1, 4)
    a, b = task("pair")(rng, 2 if kind < 0.15 else 3)
    question, work, guess = (task(name)(a, b) for name in ("question", "work", "glance"))
    if kind < 0.45:
        return (question, f"{work}\n", False) if kind < 0.15 else (question, f"{guess}\n", True)
    is_worked = rng.random() < min(0.95, OFTEN[tier] * (1 + level) / 2)
    hint = "\n".join(task("hints")(a, b)[tier][:level])
    return f"{hint}\n{question}", f"{work if is_worked else guess}\n", False


def task(name: str) -> Any:
    """What has that name in agents/long_addition.py."""
    return gallery.load(f"long_addition.py:{name}", near=Path(__file__).parent)


def characters_and_words() -> PreTrainedTokenizerFast:
    """A tokenizer of the task's words and single other characters."""
    texts = ["work ", *(part for parts in task("hints")(123, 456).values() for part in parts)]
    words = sorted({word for part in texts for word in re.findall(" ?[a-z]+", part)})
    vocabulary = ["<eos>", "<unk>", "\n", *" 0123456789+=,:~", *words]
    tokens = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+|[\s\S]"), "isolated")
    tokens.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>")
