"""Sampling in this process, from the very model that is trained."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engine.errors import ConfigError, InputError
from rl.policies._decoding import Decoder, Row
from rl.policies.base import Policy, Setup, check_request
from rl.types import Request, Rollout

_NO_STRUCTURE = "the local policy cannot hold completions to a structure"


class LocalPolicy(Policy):
    """Samples from a live transformers model, so that `sync` is a change of number.

    model: a causal language model, with or without peft adapters; on any device. autocast: a dtype
    for the forward passes ("bfloat16"), or None to compute in the model's own.
    batch_tokens: the most tokens in one batch's cache (rows x longest row); batch_rows: the most
    rows. Both bound memory; results do not depend on them (up to floating point).
    context: tokens that prompt and completion may have together; the model's own limit by default.

    The model is in evaluation mode while it samples, and every module's mode is put back.
    Raises InputError for a model whose forward cannot continue from a cache.
    """

    samples_trained_model: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        autocast: torch.dtype | str | None = None,
        batch_tokens: int = 32768,
        batch_rows: int = 256,
        context: int | None = None,
        version: int = 0,
    ) -> None:
        _check_forward(model)
        self.model, self.tokenizer, self.version = model, tokenizer, version
        self.autocast = autocast_dtype(autocast)
        self.batch_tokens, self.batch_rows = batch_tokens, batch_rows
        self.context = context or _context(model)
        self.end_ids = end_ids(model, tokenizer)

    @classmethod
    def of(cls, setup: Setup) -> LocalPolicy:
        """The policy of a run."""
        return cls(setup.model, setup.tokenizer, autocast=setup.autocast)

    @classmethod
    def require(cls, sampling: Any, place: Callable[..., str]) -> None:
        """Raise ConfigError for batches ahead and for structures, which this policy has not."""
        if sampling.max_staleness:
            raise ConfigError(
                "the local policy samples from the very weights that are being updated: nothing can be sampled ahead",
                place=place("max_staleness"),
                allowed="0, or a policy on servers (policy.engine=vllm)",
            )
        if sampling.structure is not None:
            raise ConfigError(
                _NO_STRUCTURE, place=place("structure"), allowed="nothing, or another policy (policy.engine=vllm)"
            )

    @classmethod
    def summary(cls, sampling: Any) -> str:
        """Who samples."""
        return "local: the trained model, in this process"

    def generate(self, requests: Sequence[Request]) -> list[list[Rollout]]:
        """The n rollouts of each request. See Policy for what they hold."""
        for request in requests:
            check_request(request)
            if request.structure is not None:
                raise InputError(_NO_STRUCTURE, allowed="no structure, or another policy")
        faults = [self._fault(request) for request in requests]
        rows = [
            [] if fault else [Row(request, i, self._limit(request)) for i in range(request.n)]
            for request, fault in zip(requests, faults, strict=True)
        ]
        with self._sampling_mode():
            decoder = self._decoder()
            for batch in self._batches([row for request_rows in rows for row in request_rows]):
                decoder.decode(batch)
        return [
            [self._error(fault)] * request.n if fault else self._rollouts(request_rows)
            for request, fault, request_rows in zip(requests, faults, rows, strict=True)
        ]

    def sync(self, state: nn.Module | Mapping[str, Tensor] | None, version: int) -> None:
        """Take up the weights of that number. The live model already has them; a state dict is copied in.

        A state dict may hold a part of the weights, as those of adapters; the others stay.
        """
        if isinstance(state, Mapping):
            if unknown := self.model.load_state_dict(state, strict=False).unexpected_keys:
                raise InputError(f"the local policy was given weights that its model has not: {unknown[0]}")
        elif state is not None and state is not self.model:
            raise InputError(
                "the local policy was given another model than the one it samples from",
                allowed="the same model, its state dict, or None",
            )
        self.version = version

    def _fault(self, request: Request) -> str:
        """Why the request cannot be served, or an empty string."""
        if not request.prompt_ids:
            return "the prompt has no tokens"
        if len(request.prompt_ids) >= self.context:
            return f"the prompt has {len(request.prompt_ids)} tokens; the model's context is {self.context}"
        return ""

    def _limit(self, request: Request) -> int:
        """Tokens that a completion may have: as asked, within the context."""
        return min(request.max_tokens, self.context - len(request.prompt_ids))

    def _batches(self, rows: list[Row]) -> Iterator[list[Row]]:
        """The rows in batches within the bounds, similar lengths together, a request's rows together."""
        batch: list[Row] = []
        longest = 0
        for row in sorted(rows, key=lambda row: len(row.request.prompt_ids)):
            length = len(row.request.prompt_ids) + row.limit
            grown = max(longest, length)
            if batch and (len(batch) == self.batch_rows or grown * (len(batch) + 1) > self.batch_tokens):
                yield batch
                batch, grown = [], length
            batch.append(row)
            longest = grown
        if batch:
            yield batch

    def _rollouts(self, rows: Sequence[Row]) -> list[Rollout]:
        """The finished rows of one request."""
        texts = self.tokenizer.batch_decode([row.ids for row in rows], skip_special_tokens=True)
        return [
            Rollout(
                completion_ids=tuple(row.ids),
                logprobs=tuple(row.logprobs),
                text=cut_at_stop(text, row.request.stop),
                finish_reason=row.finish or "length",
                weight_version=self.version,
            )
            for row, text in zip(rows, texts, strict=True)
        ]

    def _error(self, reason: str) -> Rollout:
        return Rollout((), (), "", "error", weight_version=self.version, error=reason)

    def _decoder(self) -> Decoder:
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id
        return Decoder(self.model, self.tokenizer, self.end_ids, pad if pad is not None else 0, device)

    @contextlib.contextmanager
    def _sampling_mode(self) -> Iterator[None]:
        """Evaluation mode, no gradients, autocast; all of it as before afterwards."""
        training = [module for module in self.model.modules() if module.training]
        device_type = next(self.model.parameters()).device.type
        self.model.eval()
        try:
            # no_grad and not inference_mode: in the latter autocast casts every weight anew each step.
            with (
                torch.no_grad(),
                torch.autocast(device_type, dtype=self.autocast) if self.autocast else contextlib.nullcontext(),
            ):
                yield
        finally:
            if self.autocast:
                # Casts made without gradient must not be found by a forward pass that trains.
                torch.clear_autocast_cache()
            for module in training:
                module.training = True


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    places = [place for s in stop if (place := text.find(s)) >= 0]
    return text[: min(places)] if places else text


def autocast_dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    """The autocast dtype of a name; None and "none" are off."""
    if name is None or isinstance(name, torch.dtype):
        return name
    known = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InputError(f"autocast is {name!r}", allowed=", ".join(known))
    return known[name]


def _context(model: Any) -> int:
    """Tokens that the model can attend to; unlimited where its config does not say."""
    config = model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None) or 2**31


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion: the model's and the tokenizer's."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = named if isinstance(named, list) else [named]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _check_forward(model: Any) -> None:
    """Raise InputError unless the model's forward takes what the decode loop gives it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    needed = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
    if lacking := needed - set(inspect.signature(base.forward).parameters):
        raise InputError(
            f"{type(base).__name__} cannot be sampled from by the local policy: "
            f"its forward does not take {', '.join(sorted(lacking))}",
            allowed="transformers causal language models with a key-value cache",
        )


POLICY = LocalPolicy
