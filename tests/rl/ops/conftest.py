"""Tiny models, and TRL's own trainer as the other implementation to compare with."""

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 61


def _llama(attention="sdpa", seed=0, **changes):
    """A random Llama of 2 layers with grouped key heads, wide enough for attention to matter."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM._from_config(LlamaConfig(**settings | changes), attn_implementation=attention)


@pytest.fixture
def make_llama():
    return _llama


@pytest.fixture
def llama():
    return _llama()


@pytest.fixture
def trl_trainer(one_trl_trainer):
    """A real GRPOTrainer on a tiny model; tests replace only the methods that bring its inputs.

    Whoever makes arguments of a transformers trainer resets accelerate's state, which all trainers share.
    """
    Accelerator()
    return one_trl_trainer


@pytest.fixture(scope="session")
def one_trl_trainer(tmp_path_factory):
    from trl import GRPOConfig, GRPOTrainer

    words = {f"w{i}": i for i in range(VOCABULARY)}
    inner = Tokenizer(WordLevel(words, unk_token="w3"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0", bos_token="w1", eos_token="w2")
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_completion_length=6,
    )
    return GRPOTrainer(
        model=_llama(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["w4 w5"] * 8}),
        processing_class=tokenizer,
    )
