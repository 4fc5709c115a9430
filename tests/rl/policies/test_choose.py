"""Which policy runs, and what is said where one cannot."""

import copy
import importlib.util
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

import rl
from engine.errors import ConfigError, EnvironmentMissing, InputError, UnknownName
from rl.config import PolicyConfig
from rl.policies import encode_prompt, load, names, resolve
from rl.policies.local import LocalPolicy
from rl.types import Request, Structure


def section(**values):
    return PolicyConfig.model_validate(values)


def test_auto_is_local_where_vllm_cannot_run():
    assert resolve(section()) == resolve(section(engine="local")) == "local"
    assert load("local") is LocalPolicy
    assert names() == ["local", "vllm"]


def test_named_servers_are_what_auto_takes():
    assert resolve(section(vllm={"servers": ["http://10.0.0.1:8000"]})) == "vllm"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_vllm_says_what_is_missing_and_what_to_do():
    with pytest.raises(EnvironmentMissing, match=r"the package vllm is not installed(.|\n)*policy.engine=local"):
        resolve(section(engine="vllm"), place="x.yaml:3:9")


def test_an_unknown_engine_is_named():
    with pytest.raises(UnknownName, match="Did you mean 'local'"):
        resolve(SimpleNamespace(engine="locl"))


@pytest.mark.parametrize("wrong", [{}, {"regex": "a+", "choice": ["a"]}])
def test_a_structure_is_one_thing(wrong):
    with pytest.raises(ValidationError, match="give one of regex, choice, json_schema and grammar"):
        section(structure=wrong)


def test_the_local_policy_refuses_structures(model, tokenizer, tiny_config):
    with pytest.raises(ConfigError, match=r"policy\.structure(.|\n)*policy\.engine=vllm"):
        rl.train(tiny_config, ["policy.structure.regex='[0-9]+'"])
    with pytest.raises(InputError, match="cannot hold completions to a structure"):
        LocalPolicy(model, tokenizer).generate([Request((1,), 1, 1, 0, structure=Structure("regex", "a"))])


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
