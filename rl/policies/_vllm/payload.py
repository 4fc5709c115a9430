"""Requests and answers of vLLM's /v1/completions: token ids in, token ids and log-probs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl.policies.local import cut_at_stop
from rl.types import FinishReason, Request, Rollout, Structure

_SEEDS = 2**62
"""vLLM seeds completion i of n with seed + i, and takes 63 bits."""


def fault_of(request: Request, context: int) -> str:
    """Why a request cannot be served, or an empty string."""
    if not request.prompt_ids:
        return "the prompt has no tokens"
    if len(request.prompt_ids) >= context:
        return f"the prompt has {len(request.prompt_ids)} tokens; the model's context is {context}"
    return ""


def asked(request: Request) -> int:
    """Completions to ask for: vLLM refuses to make several greedy ones, which would be equal."""
    return 1 if request.temperature == 0 else request.n


def sampling_of(request: Request, context: int, end_ids: frozenset[int]) -> dict[str, Any]:
    """Sampling parameters by vLLM's names, the same over HTTP and in process.

    The end tokens are sent: of those in a model's generation config vLLM would know the tokenizer's alone.
    """
    return {
        "n": asked(request),
        "max_tokens": min(request.max_tokens, context - len(request.prompt_ids)),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "min_p": request.min_p,
        "seed": request.seed % _SEEDS,
        "stop": list(request.stop),
        "stop_token_ids": sorted(end_ids),
        "logprobs": 0,  # the sampled token's alone
    }


def completion_body(request: Request, model: str, context: int, end_ids: frozenset[int]) -> dict[str, Any]:
    """The body of one request for all n completions of a prompt."""
    structure = {"structured_outputs": structure_of(request.structure)} if request.structure else {}
    return {
        "model": model,
        "prompt": list(request.prompt_ids),
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        **sampling_of(request, context, end_ids),
        **structure,
    }


def structure_of(structure: Structure) -> dict[str, Any]:
    """A structure by vLLM's names."""
    value = structure.value
    return {structure.kind: list(value) if isinstance(value, tuple) else value}


def is_aborted(answer: dict[str, Any]) -> bool:
    """Whether a completion in it was cut off by a pause: the answer is to be thrown away and asked for again."""
    return any(choice["finish_reason"] in ("abort", None) for choice in answer["choices"])


def rollouts_of(answer: dict[str, Any], request: Request, tokenizer: Any, version: int) -> list[Rollout]:
    """The n rollouts in an answer, in the order of their index."""
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    rows = [(c["token_ids"], c["logprobs"]["token_logprobs"], c["finish_reason"]) for c in choices]
    return rollouts_from(rows, request, tokenizer, version)


def rollouts_from(
    rows: Sequence[tuple[Sequence[int], Sequence[float], str]], request: Request, tokenizer: Any, version: int
) -> list[Rollout]:
    """Rollouts of (token ids, log-probs, vLLM's finish reason). The text is decoded here, as the local policy does."""
    texts = tokenizer.batch_decode([list(ids) for ids, _, _ in rows], skip_special_tokens=True)
    rollouts = [
        Rollout(
            completion_ids=tuple(ids),
            logprobs=tuple(logprobs[: len(ids)]),
            text=cut_at_stop(text, request.stop),
            finish_reason=_reason(reason),
            weight_version=version,
            error="" if reason in ("stop", "length", "repetition") else f"vLLM ended it with {reason}",
        )
        for (ids, logprobs, reason), text in zip(rows, texts, strict=True)
    ]
    return rollouts * (request.n // asked(request))


def error_rollouts(request: Request, reason: str, version: int) -> list[Rollout]:
    """n rollouts that say why there are none."""
    return [Rollout((), (), "", "error", weight_version=version, error=reason)] * request.n


def _reason(reason: str) -> FinishReason:
    return "stop" if reason in ("stop", "repetition") else "length" if reason == "length" else "error"
