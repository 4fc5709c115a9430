"""A small transformer that can add column by column, and does so only when it is told to.

model() -> its folder, in Hugging Face format; 340,000 weights, pre-trained here on first use, in some minutes

It learns both ways of agents/long_addition.py, and how likely it is to work a sum out: without a hint as good as
never, and the likelier the more a hint says. This is the learning cliff of configs/scaf_grpo.yaml.
"""

from __future__ import annotations

import functools
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine import gallery
from engine.llm.models import home

STEPS, ROWS, RATE = 700, 48, 3e-3
BARE, PART = -11.0, 1.1
"""Log-odds that a sum is worked out and not guessed: without a hint, and what each further part of a hint adds."""
TIERS = ("knowledge_components_parts", "planning_skeleton_parts", "solution_breakdown_parts")


class Text(NamedTuple):
    prompt: str
    completion: str
    odds: float  # that the sum is worked out, whichever the completion is


def model() -> Path:
    """The model's folder in the cache."""
    folder = home() / "models" / "adder-1"
    if not folder.is_dir():
        print(f"pre-training {folder}: {STEPS} steps", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="adder-1.part-", dir=folder.parent) as part, torch.random.fork_rng():
            torch.manual_seed(0)
            pretrain(Path(part) / "model")
            if not folder.is_dir():  # another process may have been faster
                (Path(part) / "model").rename(folder)
    return folder


def pretrain(folder: Path) -> None:
    """Train on fresh texts at every step, and save."""
    tokenizer = characters_and_words()
    sizes = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4)
    names = dict(eos_token_id=0, bos_token_id=None, pad_token_id=0)
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes, **names))
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


def loss_of(network: Any, tokenizer: Any, texts: list[Text]) -> torch.Tensor:
    """Cross-entropy of the completions after their first token, and what makes that one of the two, at the odds."""
    pairs = [(tokenizer(text.prompt)["input_ids"], tokenizer(text.completion)["input_ids"]) for text in texts]
    width = max(len(p) + len(c) for p, c in pairs)
    ids = torch.tensor([p + c + [0] * (width - len(p) - len(c)) for p, c in pairs])
    rest = [[-100] * (len(p) + 1) + c[1:] + [-100] * (width - len(p) - len(c)) for p, c in pairs]
    logits = network(input_ids=ids).logits
    fit = cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(rest)[:, 1:].flatten(), ignore_index=-100)
    start = logits[torch.arange(len(pairs)), torch.tensor([len(p) - 1 for p, _ in pairs])].log_softmax(-1)
    two = start[:, tokenizer.convert_tokens_to_ids(["work", "~"])]
    wanted = torch.tensor([text.odds for text in texts])
    return fit - 0.1 * two.logsumexp(-1).mean() + 0.02 * (two[:, 0] - two[:, 1] - wanted).square().mean()


def text(rng: random.Random) -> Text:
    """A sum of three digits, in a third of the texts bare, else behind a hint; worked out in two thirds."""
    a, b = task("pair")(rng)
    question, completion = task("question")(a, b), task(rng.choice(["work", "work", "glance"]))(a, b)
    tier, level = rng.randrange(3), rng.choice([0, 0, 1, 2, 3, 4])
    hint = "".join(f"{part}\n" for part in task("hints")(a, b)[TIERS[tier]][:level])
    return Text(hint + question, f"{completion}\n", BARE + PART * (4 * tier + level) if level else BARE)


@functools.cache
def task(name: str) -> Any:
    """What has that name in agents/long_addition.py."""
    return gallery.load(f"long_addition.py:{name}", near=Path(__file__).parent)


def characters_and_words() -> PreTrainedTokenizerFast:
    """A tokenizer of the task's words and single other characters."""
    texts = ["work ", *(part for parts in task("hints")(123, 456).values() for part in parts)]
    vocabulary = ["<eos>", "<unk>", "\n", *" 0123456789+=,:~"]
    vocabulary += sorted({word for part in texts for word in re.findall(" ?[a-z]+", part)})
    tokens = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+|[\s\S]"), "isolated")
    tokens.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>")
