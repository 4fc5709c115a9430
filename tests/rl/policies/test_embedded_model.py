"""The in-process policy with the embedded model, beside transformers' own generate."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.llm.models import model_path
from rl.policies import encode_prompt
from rl.policies.local import LocalPolicy
from rl.types import Request

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def parts():
    path = model_path("smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), AutoTokenizer.from_pretrained(path)


def test_greedy_texts_and_ids_are_those_of_transformers(parts):
    model, tokenizer = parts
    texts = [f"2+3=5\n4+4=8\n7+6=13\n{a}+{b}=" for a, b in ((1, 2), (9, 9))] + ["The capital of France is"]
    prompts = [encode_prompt(tokenizer, text) for text in texts]
    groups = LocalPolicy(model, tokenizer).generate([Request(p, 1, 12, seed=0, temperature=0) for p in prompts])
    for prompt, [rollout] in zip(prompts, groups, strict=True):
        ids = torch.tensor([prompt])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        expected = output[0, len(prompt) :].tolist()
        assert list(rollout.completion_ids) == expected
        assert rollout.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_logprobs_are_those_of_one_forward_and_lines_stop(parts):
    model, tokenizer = parts
    prompt = encode_prompt(tokenizer, "2+3=5\n4+4=8\n7+6=13\n8+5=")
    [group] = LocalPolicy(model, tokenizer).generate([Request(prompt, 4, 8, seed=1, stop=("\n",))])
    model.eval()
    for rollout in group:
        ids = torch.tensor([[*prompt, *rollout.completion_ids]])
        with torch.no_grad():
            rows = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = rows.gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0].tolist()
        assert rollout.logprobs == pytest.approx(expected, abs=1e-4)
        assert "\n" not in rollout.text
        assert (rollout.finish_reason == "stop") == ("\n" in tokenizer.decode(rollout.completion_ids))


def test_a_chat_goes_through_the_models_template(parts):
    _, tokenizer = parts
    text = tokenizer.decode(encode_prompt(tokenizer, [{"role": "user", "content": "Hello"}]))
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")


def test_a_twelfth_of_the_weights_lies_between_two_bfloat16_values(parts):
    """Why configs/grpo.yaml computes in float32: rounded, these are moved a whole step by any update."""
    bits = torch.cat([weight.detach().flatten().view(torch.int32) & 0xFFFF for weight in parts[0].parameters()])
    assert float((bits == 0x8000).float().mean()) == pytest.approx(0.081, abs=0.002)
