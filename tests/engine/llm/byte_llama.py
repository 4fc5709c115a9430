"""A tiny Llama over bytes with random weights, for the tests of what runs in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def saved(path: Path, *, positions: int, vocabulary: Mapping[str, int] | None = None, **config: Any) -> Path:
    """The folder, with model and tokenizer in it. positions: tokens that it has room for; vocabulary: of 256 bytes by
    their names, to which <end> is added; config: of the model, two layers unless it says otherwise."""
    names = vocabulary or {name: place for place, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(BPE({**names, "<end>": 256}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>").save_pretrained(path)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    whole = LlamaConfig(vocab_size=257, eos_token_id=256, max_position_embeddings=positions, **{**sizes, **config})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(whole).save_pretrained(path)
    return path
