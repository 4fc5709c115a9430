"""Which policy runs, and what is said where one cannot."""

import copy
import importlib.util

import pytest

from engine.errors import EnvironmentMissing, InputError, UnknownName
from rl.policies import choose, encode_prompt, names, resolve
from rl.policies._vllm.settings import VllmConfig
from rl.policies.local import LocalPolicy


def test_auto_is_local_where_vllm_cannot_run(model, tokenizer):
    assert isinstance(choose(model=model, tokenizer=tokenizer), LocalPolicy)
    assert isinstance(choose("local", model=model, tokenizer=tokenizer, autocast="bfloat16"), LocalPolicy)
    assert names() == ["local", "vllm"]


def test_named_servers_are_what_auto_takes():
    assert resolve("auto", settings=VllmConfig(servers=("http://10.0.0.1:8000",))) == "vllm"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_vllm_says_what_is_missing_and_what_to_do(model, tokenizer):
    with pytest.raises(EnvironmentMissing, match=r"the package vllm is not installed(.|\n)*policy.engine=local"):
        choose("vllm", model=model, tokenizer=tokenizer, place="x.yaml:3:9")


def test_an_unknown_engine_is_named(model, tokenizer):
    with pytest.raises(UnknownName, match="Did you mean 'local'"):
        choose("locl", model=model, tokenizer=tokenizer)


def test_text_prompts_are_tokenized_as_they_are(tokenizer):
    assert tokenizer.decode(encode_prompt(tokenizer, "2+3=")) == "2+3="


def test_chat_prompts_go_through_the_template(tokenizer):
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(InputError, match="no chat template"):
        encode_prompt(tokenizer, messages)
    spoken = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = spoken + "{% if add_generation_prompt %}[assistant]{% endif %}"
    assert tokenizer.decode(encode_prompt(tokenizer, messages)) == "[user]hi[assistant]"
