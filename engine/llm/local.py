"""A transformers model in this process."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.errors import DataError, InputError
from engine.llm.base import LLM, Completion, Message, Usage
from engine.llm.guided import GuidedRow, can_guide
from engine.llm.hidden import HiddenStates
from engine.llm.models import check_reference, model_path
from engine.llm.residual import Steerer
from engine.llm.sampling import Sampler, Sampling, read_sampling
from engine.llm.schema import Schema, check_schema
from engine.llm.steering import MODES, Steering, read_steering
from engine.llm.structured import check_request, complete_with_schema, text_of, with_instruction
from engine.llm.vocabulary import Vocabulary

SCORED_TOKENS = 2048
"""How many tokens `scores` forwards at once; times the vocabulary this is its memory."""


class LocalLLM(LLM):
    """A causal language model run by transformers in this process, loaded at the first call.

    model: a known name (fetched on first use), a hub id or a folder. device: None takes CUDA where it is there;
    dtype: None is bfloat16 on CUDA and float32 on the CPU.
    seed: start of the stream that calls without a seed of their own draw theirs from, in the order of the calls.
    defaults: sampling that every call gets unless it says otherwise.

    Choice i of a call depends on its messages, sampling, seed and i only; the global random state is neither
    read nor changed. Calls of several threads are run one after the other.
    With a schema the answer is valid by construction (guided decoding), with no repair request; a schema that
    fixes no skeleton is prompted for, as with any endpoint.
    The sampling argument `steering` (engine.llm.steering) adds an offset to the residual stream while it samples.
    """

    steering_modes = MODES

    def __init__(
        self,
        model: str | Path = "smollm2-135m",
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        seed: int = 0,
        **defaults: Any,
    ) -> None:
        read_sampling(defaults)
        check_reference(str(model))
        self.name = f"local:{model}"
        self._reference = str(model)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._dtype = dtype or (torch.bfloat16 if self._device.type == "cuda" else torch.float32)
        self._defaults = defaults
        self._seeds = torch.Generator().manual_seed(seed)
        self._lock = threading.RLock()
        self._loaded: tuple[Any, Any] | None = None
        self._vocabulary: Vocabulary | None = None
        self._hidden: HiddenStates | None = None

    def __repr__(self) -> str:
        return f"LocalLLM({self._reference!r})"

    @property
    def model(self) -> Any:
        """The transformers model, in evaluation mode; loaded now if it is not yet."""
        return self._load()[0]

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._load()[1]

    def complete(
        self, messages: Sequence[Message], *, schema: Schema | None = None, n: int = 1, **sampling: Any
    ) -> Completion:
        check_request(messages, n)
        steering = read_steering(sampling.pop("steering", None))
        settings = read_sampling({**self._defaults, **sampling})
        if schema is None:
            return self._sample(messages, n, settings, steering=steering)
        check_schema(schema)
        if can_guide(schema):
            return self._sample(with_instruction(messages, schema), n, settings, schema, steering)
        return complete_with_schema(
            lambda told, count: self._sample(told, count, settings, steering=steering),
            messages,
            schema,
            n,
            place=self.name,
        )

    @property
    def can_embed(self) -> bool:
        return True

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The mean hidden state of each text, as `HiddenStates` makes it. Raises InputError for an empty text."""
        with self._lock:
            self._hidden = self._hidden or HiddenStates(self.model, self.tokenizer, self._device)
            return self._hidden(texts)

    def score(self, prompt: str, continuation: str) -> float:
        """The log-probability (nats, summed over tokens) of a text after a prompt, both taken as they are."""
        return self.scores([prompt], [continuation])[0]

    def scores(self, prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
        """`score` of each pair, in batches. Raises InputError for an empty text."""
        rows = []
        for prompt, continuation in zip(prompts, continuations, strict=True):
            before, after = self._encode(prompt), self._encode(continuation)
            if not before or not after:
                raise InputError(f"a text to score is empty: {prompt!r:.40}, {continuation!r:.40}")
            rows.append((before, after))
        # The last token is scored and not read; the pairs of which the same is read share a row.
        shared: dict[tuple[int, ...], list[int]] = {}
        for place, (before, after) in enumerate(rows):
            shared.setdefault((*before, *after[:-1]), []).append(place)
        known = min(len(_common(list(shared))), *(len(before) - 1 for before, _ in rows)) if len(shared) > 1 else 0
        results = [0.0] * len(rows)
        with self._lock, torch.inference_mode():
            cache = self._read(next(iter(shared))[:known])
            for inputs in _batches(sorted(shared, key=len), known):
                for ids, logits in zip(inputs, self._logits(inputs, known, cache), strict=True):
                    for place in shared[ids]:
                        before, after = rows[place]
                        results[place] = _log_probability(logits[len(before) - 1 - known :], after)
        return results

    def _read(self, ids: Sequence[int]) -> Any:
        """The model's cache after these tokens; None after none."""
        if not ids:
            return None
        return self.model(torch.tensor([ids], device=self._device), use_cache=True, logits_to_keep=1).past_key_values

    def _logits(self, inputs: Sequence[tuple[int, ...]], known: int, cache: Any) -> torch.Tensor:
        """(rows, longest - known, V) after the first `known` tokens, which all have and the cache holds; padded."""
        longest = max(map(len, inputs))
        ids = torch.zeros(len(inputs), longest - known, dtype=torch.long)
        mask = torch.zeros(len(inputs), longest, dtype=torch.long)
        for row, tokens in enumerate(inputs):
            ids[row, : len(tokens) - known] = torch.tensor(tokens[known:])
            mask[row, : len(tokens)] = 1
        cache = copy.deepcopy(cache)  # a forward pass changes it
        if cache is not None:
            cache.batch_repeat_interleave(len(inputs))
        logits: torch.Tensor = self.model(
            ids.to(self._device),
            attention_mask=mask.to(self._device),
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits
        return logits

    def _sample(
        self,
        messages: Sequence[Message],
        n: int,
        settings: Sampling,
        schema: Schema | None = None,
        steering: Steering | None = None,
    ) -> Completion:
        prompt = self._prompt(messages)
        started = time.monotonic()
        with self._lock:
            settings = self._fitted(settings, len(prompt))
            seed = int(torch.randint(2**62, (), generator=self._seeds)) if settings.seed is None else settings.seed
            rows = [self._row(settings, Sampler(settings, seed, index), schema) for index in range(n)]
            steerer = Steerer(self.model, self._encode, steering)
            with steerer.running():
                tokens = self._run(prompt, rows, steerer)
        usage = Usage(1, len(prompt), tokens, time.monotonic() - started)
        parsed = tuple(json.loads(row.text) for row in rows) if schema is not None else ()
        return Completion(tuple(row.text for row in rows), tuple(row.finish_reason for row in rows), parsed, usage)

    def _row(self, settings: Sampling, sampler: Sampler, schema: Schema | None) -> GuidedRow | _FreeRow:
        if schema is None:
            return _FreeRow(self.tokenizer, self.model, sampler, settings)
        self._vocabulary = self._vocabulary or Vocabulary(self.tokenizer)
        return GuidedRow(self._vocabulary, schema, sampler, settings.max_tokens)

    @torch.inference_mode()
    def _run(self, prompt: list[int], rows: Sequence[GuidedRow | _FreeRow], steerer: Steerer) -> int:
        """Sample all rows to their end; the prompt is forwarded once. The number of tokens made."""
        # Every row starts with the same forced tokens.
        forced = [row.take_forced() for row in rows].pop()
        active = [row for row in rows if not row.is_done]
        made = len(forced) * len(rows)
        if not active:
            return made
        read = prompt + forced
        step = self.model(torch.tensor([read], device=self._device), use_cache=True, logits_to_keep=1)
        cache, previous = step.past_key_values, [read[-1]] * len(active)
        cache.batch_repeat_interleave(len(active))
        logits = step.logits[:, -1].float().cpu().expand(len(active), -1)
        while True:
            tokens = [row.next(scores) for row, scores in zip(active, logits, strict=True)]
            made += len(tokens)
            going = [index for index, row in enumerate(active) if not row.is_done]
            if not going:
                return made
            if len(going) < len(active):
                cache.batch_select_indices(torch.tensor(going, device=self._device))
                active = [active[i] for i in going]
                tokens, previous = [tokens[i] for i in going], [previous[i] for i in going]
            ids = torch.tensor(steerer.fed(cache, previous, tokens), device=self._device)
            step = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits, previous = step.logits[:, -1].float().cpu(), tokens

    def _fitted(self, settings: Sampling, prompt_tokens: int) -> Sampling:
        """The settings with max_tokens that fit behind the prompt. Raises InputError when none do."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is None or prompt_tokens + settings.max_tokens <= limit:
            return settings
        if prompt_tokens + 1 > limit:
            raise InputError(
                f"the prompt has {prompt_tokens} tokens", place=self.name, allowed=f"{limit} together with the answer"
            )
        return Sampling(**{**vars(settings), "max_tokens": limit - prompt_tokens})

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        chat = [{"role": message["role"], "content": text_of(message)} for message in messages]
        if self.tokenizer.chat_template is None:
            return self._encode("\n\n".join(message["content"] for message in chat) + "\n")
        return self._encode(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                folder = model_path(self._reference)
                try:
                    tokenizer = AutoTokenizer.from_pretrained(folder)
                    model = AutoModelForCausalLM.from_pretrained(folder, dtype=self._dtype)
                except (OSError, ValueError) as error:
                    raise DataError(
                        f"not a causal language model: {error!s:.200}",
                        place=str(folder),
                        next_step="give a folder with config.json, weights in safetensors and a tokenizer",
                    ) from None
                self._loaded = (model.to(self._device).eval(), tokenizer)
            return self._loaded


class _FreeRow:
    """One choice of plain text under way."""

    def __init__(self, tokenizer: Any, model: Any, sampler: Sampler, settings: Sampling) -> None:
        ends = model.generation_config.eos_token_id
        self._ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self._tokenizer, self._sampler, self._settings = tokenizer, sampler, settings
        self._ids: list[int] = []
        self.text, self.finish_reason, self.is_done = "", "stop", False

    def take_forced(self) -> list[int]:
        return []

    def next(self, logits: torch.Tensor) -> int:
        token = self._sampler.pick(logits)
        if token in self._ends:
            self.is_done = True
        else:
            self._ids.append(token)
            if self._settings.stop:
                self._stop()
            if not self.is_done and len(self._ids) >= self._settings.max_tokens:
                self.finish_reason, self.is_done = "length", True
        if self.is_done and not self.text:
            self.text = self._decoded()
        return token

    def _stop(self) -> None:
        """End at the first stop text, which is left out."""
        text = self._decoded()
        found = [place for stop in self._settings.stop if (place := text.find(stop)) >= 0]
        if found:
            self.text, self.is_done = text[: min(found)], True
            self._ids = [] if not self.text else self._ids

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _log_probability(logits: torch.Tensor, after: Sequence[int]) -> float:
    """Of the tokens `after`, from the logits from the token before them on: those at a token are the next one's."""
    wanted = logits[: len(after)].float().log_softmax(-1)
    return float(wanted.cpu().gather(1, torch.tensor(after)[:, None]).sum())


def _common(inputs: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all begin with."""
    first, last = min(inputs), max(inputs)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def _batches(inputs: Sequence[tuple[int, ...]], known: int) -> list[list[tuple[int, ...]]]:
    """The inputs, which come by length, cut so that a padded batch has at most SCORED_TOKENS tokens to forward."""
    batches: list[list[tuple[int, ...]]] = []
    for tokens in inputs:
        if batches and (len(batches[-1]) + 1) * (len(tokens) - known) <= SCORED_TOKENS:
            batches[-1].append(tokens)
        else:
            batches.append([tokens])
    return batches
