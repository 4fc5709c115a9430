"""A steered vLLM: a server with the request fields of vllm-lens 1.3, whose model is a tiny one without a cache."""

from __future__ import annotations

import base64
import json
import sys
import types
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.errors import DataError, EnvironmentMissing, InputError
from engine.llm import LensLLM, LocalLLM
from engine.llm.lens import _decoded

ASK = [{"role": "user", "content": "Name a colour."}]
STEERING = {"positive": ["warm red", "o"], "negative": ["cold blue"], "depth": 0.5, "alpha": 2.0, "mode": "sticky"}


def sent(tensor: torch.Tensor) -> dict[str, Any]:
    """As the plugin sends a tensor, but for its compression."""
    data = base64.b64encode(tensor.numpy().tobytes()).decode()
    return {"data": data, "dtype": "float32", "original_dtype": "torch.float32", "shape": list(tensor.shape)}


class Lens:
    """What `vllm serve` with the plugin does with the fields that LensLLM sends; greedy."""

    def __init__(self, folder: Path, endpoint: Any) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.endpoint = endpoint

    def __call__(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        is_chat = handler.path.endswith("/chat/completions")
        body = self.chat(request) if is_chat else self.captured(request)
        body |= {"id": "1", "created": 0, "model": "m", "object": "chat.completion" if is_chat else "text_completion"}
        self.endpoint.raw(200, json.dumps(body))(handler, request)

    def captured(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted, ids = json.loads(request["vllm_xargs"]["output_residual_stream"]), list(request["prompt"].encode())
        with torch.no_grad():
            states = self.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1:]
        layers = range(len(states)) if wanted is True else wanted
        choices = [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}]
        stream = torch.cat([states[i] for i in layers])
        return {"choices": choices, "activations": {"residual_stream": sent(stream)}}

    def chat(self, request: dict[str, Any]) -> dict[str, Any]:
        ids = list((request["messages"][0]["content"] + "\n").encode())
        prompt = len(ids)
        for _ in range(request["max_tokens"]):
            ids.append(self.next(ids, json.loads(request.get("vllm_xargs", {}).get("apply_steering_vectors", "[]"))))
        text = bytes(ids[prompt:]).decode(errors="replace")
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": prompt, "completion_tokens": len(ids) - prompt, "total_tokens": len(ids)}
        return {"choices": [choice], "usage": usage}

    def next(self, ids: list[int], vectors: list[dict[str, Any]]) -> int:
        handles = [
            self.model.model.layers[v["layer_indices"][0]].register_forward_hook(
                lambda module, inputs, output, v=v: self.moved(output, v)
            )
            for v in vectors
        ]
        with torch.no_grad():
            logits = self.model(torch.tensor([ids]), use_cache=False).logits
        for handle in handles:
            handle.remove()
        return int(logits[0, -1].argmax())

    @staticmethod
    def moved(output: torch.Tensor, vector: dict[str, Any]) -> torch.Tensor:
        added = torch.frombuffer(bytearray(base64.b64decode(vector["activations"]["data"])), dtype=torch.float32)
        added = added.reshape(vector["activations"]["shape"])
        output = output.clone()
        for place, position in enumerate(vector["position_indices"]):
            if position < output.shape[1]:
                output[0, position] += added[0, place]
        return output


@pytest.fixture
def lens(byte_model: Path, endpoint: Any) -> LensLLM:
    endpoint.replies = [Lens(byte_model, endpoint)]
    return LensLLM("m", endpoint.url, max_retries=0)


def test_it_says_what_the_model_in_this_process_says(byte_model: Path, lens: LensLLM) -> None:
    local = LocalLLM(byte_model)
    assert lens.steering_modes == ("sticky",) and lens.can_steer
    for alpha in (2.0, -2.0):
        options = {"temperature": 0, "max_tokens": 16, "steering": {**STEERING, "alpha": alpha}}
        assert lens.complete(ASK, **options).text == local.complete(ASK, **options).text
    plain = lens.complete(ASK, temperature=0, max_tokens=16)
    assert plain.text == local.complete(ASK, temperature=0, max_tokens=16).text
    assert plain.text != lens.complete(ASK, temperature=0, max_tokens=16, steering=STEERING).text


def test_each_choice_is_a_request_with_a_seed_of_its_own_and_a_salt_of_the_steering(
    lens: LensLLM, endpoint: Any
) -> None:
    answer = lens.complete(ASK, n=3, seed=5, max_tokens=4, steering=STEERING)
    steered = [r for r in endpoint.requests if "apply_steering_vectors" in r.get("vllm_xargs", {})]
    assert len(answer.texts) == len(answer.finish_reasons) == 3
    assert sorted(r["seed"] for r in steered) == [5, 6, 7] and all(r.get("n", 1) == 1 for r in steered)
    assert len({r["cache_salt"] for r in steered}) == 1
    assert answer.usage.calls == 4  # and one that counts the prompt's tokens
    endpoint.requests.clear()
    lens.complete(ASK, max_tokens=4, steering={**STEERING, "alpha": 1.0})
    other = [r["cache_salt"] for r in endpoint.requests if "cache_salt" in r]
    assert other and other[0] != steered[0]["cache_salt"]


def test_a_server_without_the_plugin_is_an_endpoint_like_any_other(endpoint: Any) -> None:
    lens = LensLLM("m", endpoint.url, max_retries=0)
    assert not lens.can_steer and lens.complete(ASK).text == "hello"
    assert len(endpoint.requests) == 2  # it is asked once
    with pytest.raises(InputError, match="no plugin to steer with"):
        lens.complete(ASK, steering=STEERING)
    endpoint.replies = [endpoint.refusal(400, "unknown field vllm_xargs")]
    assert not LensLLM("m", endpoint.url, max_retries=0).can_steer


def test_what_it_does_not_offer_is_refused(lens: LensLLM) -> None:
    with pytest.raises(InputError, match="allowed: sticky"):
        lens.complete(ASK, steering={**STEERING, "mode": "exact"})
    with pytest.raises(InputError, match="with a schema"):
        lens.complete(ASK, schema={"type": "object"}, steering=STEERING)
    with pytest.raises(InputError, match="are the same"):
        lens.complete(ASK, max_tokens=4, steering={**STEERING, "positive": ["one"], "negative": ["one"]})


def test_bfloat16_and_zstd_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.tensor([[[1.0, -2.5]]]).bfloat16()
    data = base64.b64encode(numbers.view(torch.int16).numpy().tobytes()[::-1]).decode()
    form = {
        "data": data,
        "dtype": "int16",
        "original_dtype": "torch.bfloat16",
        "shape": [1, 1, 2],
        "compression": "zstd",
    }

    class Reversed:
        def decompress(self, data: bytes) -> bytes:
            return data[::-1]

    monkeypatch.setitem(sys.modules, "zstandard", types.SimpleNamespace(ZstdDecompressor=Reversed))
    assert _decoded(form).tolist() == [[[1.0, -2.5]]]
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(EnvironmentMissing, match="pip install zstandard"):
        _decoded(form)
    with pytest.raises(DataError, match=r"not vllm-lens 1\.3"):
        _decoded({"handle": "x"})
