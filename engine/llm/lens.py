"""A model served by vLLM with the plugin vllm-lens, which can be steered over HTTP.

    pip install vllm-lens            (where the server runs; Python >= 3.12, version 1.3.0 wants vllm 0.30.0)
    vllm serve MODEL                 (the plugin loads by itself, and turns CUDA graphs off: use a server of its own)

The plugin reads the request's `vllm_xargs`: `output_residual_stream` (layers to send back, all of them for true) and
`apply_steering_vectors` (what is added, to which layers and positions). Written against the source of 1.3.0.
"""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import torch

from engine.errors import DataError, EnvironmentMissing, InputError
from engine.llm.base import Completion, Message
from engine.llm.openai import OpenAILLM
from engine.llm.schema import Schema
from engine.llm.steering import Steering, read_steering

MAX_TOKENS = 256
DTYPES = {"torch.bfloat16": torch.bfloat16, "torch.float16": torch.float16, "torch.float32": torch.float32}


class LensLLM(OpenAILLM):
    """An OpenAILLM that takes `steering` in mode "sticky", where its server has the plugin.

    Whether it has is asked once, with the first look at `steering_modes`; without it the model is a plain OpenAILLM.
    The offset is the one of a LocalLLM: texts are read by the server, and it is added after the layer at the
    last position of the prompt and at every sampled one. Each steered choice is a request of its own with the seed
    seed + i, because the plugin finds no steering for the parts of a request with n > 1; and a steering has its own
    `cache_salt`, because the server keeps steered states in its prefix cache.
    Reading the server's states takes the package zstandard.
    """

    def __init__(self, model: str, base_url: str | None = None, api_key: str | None = None, **options: Any) -> None:
        super().__init__(model, base_url, api_key, **options)
        self._layers: int | None = None

    @property
    def steering_modes(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("sticky",) if self._layer_count() else ()

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        steering = read_steering(sampling.pop("steering", None))
        if steering is None or steering.alpha == 0:
            return super().complete(messages, schema=schema, n=n, **sampling)
        self._check(steering, schema)
        sampling = {"max_tokens": MAX_TOKENS, **self._defaults, **sampling}
        prompt = super().complete(messages, **{**sampling, "max_tokens": 1}).usage
        vector = self._vector(steering, prompt.prompt_tokens, sampling["max_tokens"])
        salt = json.dumps(steering.to_json(), sort_keys=True)
        own = {**(sampling.pop("extra_body", None) or {}), "vllm_xargs": vector, "cache_salt": salt}
        seed = sampling.pop("seed", None)

        def choice(index: int) -> Completion:
            seeded = {} if seed is None else {"seed": seed + index}
            return super(LensLLM, self).complete(messages, **sampling, **seeded, extra_body=own)

        with ThreadPoolExecutor(n) as pool:
            found = list(pool.map(choice, range(n)))
        texts, finishes = zip(*((c.texts[0], c.finish_reasons[0]) for c in found), strict=True)
        return Completion(texts, finishes, usage=sum((c.usage for c in found), prompt))

    def _check(self, steering: Steering, schema: Schema | None) -> None:
        if not self.can_steer:
            raise InputError(
                "the server has no plugin to steer with",
                place=self.name,
                next_step="start it with vllm-lens installed, or leave the steering out",
            )
        if steering.mode not in self.steering_modes:
            raise InputError(f"steering mode is '{steering.mode}'", place=self.name, allowed="sticky with this model")
        if schema is not None:
            raise InputError("a steered answer with a schema", place=self.name, allowed="plain answers with steering")

    def _vector(self, steering: Steering, prompt_tokens: int, max_tokens: int) -> dict[str, str]:
        """The `vllm_xargs` that add the offset from the prompt's last position on."""
        layer = int(steering.depth * (self._layer_count() or 0))
        rows = [self._states(text, layer) for text in (*steering.positive, *steering.negative)]
        cut, norm = len(steering.positive), float(torch.cat(rows).norm(dim=-1).mean())
        means = torch.stack([row.mean(0) for row in rows])
        direction = means[:cut].mean(0) - means[cut:].mean(0)
        length = float(direction.norm())
        if length <= 1e-6 * norm:
            raise InputError("steering: the positive and the negative texts are the same", allowed="texts that differ")
        places = list(range(prompt_tokens - 1, prompt_tokens + max_tokens))
        added = (direction * (steering.alpha * norm / length)).expand(1, len(places), -1)
        vector = {"activations": _encoded(added), "layer_indices": [layer], "position_indices": places}
        return {"apply_steering_vectors": json.dumps([vector])}

    def _states(self, text: str, layer: int) -> torch.Tensor:
        """(tokens - 1, d) of a text at the layer's output, but the first token's; a lone one is read after a break."""
        for tried in (text, "\n" + text):
            states = self._captured(tried, json.dumps([layer]))
            if states is not None and states.shape[1] > 1:
                return states[0, 1:]
        raise DataError("the server sent no hidden states", place=self.name, next_step="look at the server's log")

    def _layer_count(self) -> int:
        """How many decoder layers the model has; 0 where the server does not show them."""
        if self._layers is None:
            states = self._captured("a", "true")
            self._layers = 0 if states is None else int(states.shape[0])
        return self._layers

    def _captured(self, text: str, layers: str) -> torch.Tensor | None:
        """(layers, tokens, d) of a text, float32; None from a server without the plugin."""
        body = {"vllm_xargs": {"output_residual_stream": layers}, "add_special_tokens": False}
        try:
            with self._limit.slot():
                response = self._client.completions.create(
                    model=self.model, prompt=text, max_tokens=1, temperature=0, extra_body=body
                )
        except (openai.BadRequestError, openai.UnprocessableEntityError, openai.NotFoundError):
            return None
        except openai.OpenAIError as error:
            failure = self._explained(error)
        else:
            found = (getattr(response, "model_extra", None) or {}).get("activations") or {}
            return _decoded(found["residual_stream"]) if "residual_stream" in found else None
        raise failure


def _encoded(tensor: torch.Tensor) -> dict[str, Any]:
    """The plugin's wire form of float32 numbers, not compressed."""
    data = tensor.float().contiguous().cpu().numpy().tobytes()
    return {"data": base64.b64encode(data).decode("ascii"), "dtype": "float32", "shape": list(tensor.shape)}


def _decoded(sent: dict[str, Any]) -> torch.Tensor:
    """The numbers of the plugin's wire form as float32. Raises DataError, EnvironmentMissing."""
    try:
        data = base64.b64decode(sent["data"])
        if sent.get("compression") == "zstd":
            data = _decompressed(data)
        dtype = DTYPES[sent.get("original_dtype", f"torch.{sent['dtype']}")]
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(sent["shape"]).float()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"hidden states in a form that is not vllm-lens 1.3's: {error!r:.120}") from None


def _decompressed(data: bytes) -> bytes:
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ModuleNotFoundError:
        raise EnvironmentMissing(
            "the server's hidden states are compressed with zstd", next_step="pip install zstandard"
        ) from None
    found: bytes = zstandard.ZstdDecompressor().decompress(data)
    return found
