"""Do both sides compute the same? The log-probs of a fixed text, by the trainer's forward and by vLLM.

Two numbers, since two things go wrong apart from each other: the mean |difference| over the text's own tokens,
which vLLM computes anew, and over the likeliest next tokens after the text's beginnings, which vLLM computes from
its prefix cache. The text is longer than a block of that cache (128 tokens on a CPU).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import EngineError

TOKENS = 140
ENDS = 4
TOP = 5

_TEXT = """A lighthouse keeper wrote down the weather every evening for forty years. On calm days he noted the colour
of the water and the names of the ships; in storms he wrote only the hour and the direction of the wind. When the
station was closed, a teacher in the village read all of the notebooks. She counted 311 gales, 2 shipwrecks and one
day in June on which it had snowed. "What did he do on that day?" asked her pupils. The page said: swept the stairs,
lit the lamp at 9:40, and wondered whether anybody would believe it. They added up the numbers on the blackboard,
311 + 2 + 1 = 314, and decided that they would. Later two of them became sailors and one a printer, and the printer
set the notebooks in type, page after page, with every blot described in a footnote and nothing left out of them."""


class Mismatch(EngineError):
    """After a sync the sampler's log-probs are not those of the trainer's weights."""


@dataclass(frozen=True)
class Scores:
    """The trainer's side. `own`: (L-1,) log-probs of the text's tokens from the second on. `ends`: (ENDS, V)
    log-probs after the text's last beginnings, the longest last."""

    own: Tensor
    ends: Tensor


@dataclass(frozen=True)
class Difference:
    """Mean |difference| over the text's tokens and after its beginnings."""

    own: float
    cached: float

    def require(self, tolerance: float, where: str) -> None:
        """Raise Mismatch unless both are within the tolerance (a NaN is not)."""
        if self.own <= tolerance and self.cached <= tolerance:
            return
        raise Mismatch(
            f"after the sync the sampler's log-probs differ from the trainer's: mean |difference| {self.own:.3g} "
            f"over a fixed text, {self.cached:.3g} after its beginnings (prefix cache)",
            place=where,
            allowed=f"at most {tolerance:g} (policy.vllm.tolerance)",
            next_step="see that the server computes in the trainer's precision (policy.vllm.dtype); if it does, "
            "its weights are not the trainer's: restart it and go on with --resume",
        )


def probe_ids(tokenizer: Any, vocabulary: int, context: int) -> tuple[int, ...]:
    """The text's tokens; random ones where the tokenizer makes too little of it."""
    length = min(TOKENS, context - 1)
    ids = [i for i in tokenizer(_TEXT, add_special_tokens=False)["input_ids"] if i < vocabulary]
    if len(ids) < length or len(set(ids)) < min(32, vocabulary // 2):
        draw = random.Random(0)
        ids = [draw.randrange(vocabulary) for _ in range(length)]
    return tuple(ids[:length])


def trainer_scores(model: nn.Module, ids: tuple[int, ...], autocast: torch.dtype | None) -> Scores:
    """The trainer's side, computed as it trains, but without dropout and gradients."""
    device = next(model.parameters()).device
    with (
        _evaluating(model),
        torch.no_grad(),
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None, cache_enabled=False),
    ):
        logits = model(input_ids=torch.tensor([ids], device=device)).logits[0].float()
    logprobs = logits.log_softmax(-1).cpu()
    own = logprobs[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)
    return Scores(own, logprobs[-ends(ids) :])


def difference(scores: Scores, own: list[float], cached: list[dict[int, float]]) -> Difference:
    """own: the sampler's log-probs of ids[1:]; cached: its likeliest next tokens after each of the beginnings."""
    pairs = [(scores.ends[row, token].item(), value) for row, top in enumerate(cached) for token, value in top.items()]
    mine, theirs = (torch.tensor(side) for side in zip(*pairs, strict=True))
    return Difference(float((scores.own - torch.tensor(own)).abs().mean()), float((mine - theirs).abs().mean()))


def beginnings(ids: tuple[int, ...]) -> list[list[int]]:
    """The prompts after which the next token is asked for."""
    count = ends(ids)
    return [list(ids[: len(ids) - count + 1 + i]) for i in range(count)]


def ends(ids: tuple[int, ...]) -> int:
    return min(ENDS, len(ids))


def served_difference(
    complete: Callable[[dict[str, Any]], dict[str, Any]], model: str, ids: tuple[int, ...], scores: Scores
) -> Difference:
    """Ask a server, by its /v1/completions. The beginnings come first: scoring fills the prefix cache anew."""
    common = {"model": model, "max_tokens": 1, "temperature": 1.0, "seed": 0, "return_tokens_as_token_ids": True}
    answer = complete({**common, "prompt": beginnings(ids), "logprobs": TOP})
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    cached = [
        {int(token.removeprefix("token_id:")): value for token, value in c["logprobs"]["top_logprobs"][0].items()}
        for c in choices
    ]
    answer = complete({**common, "prompt": list(ids), "prompt_logprobs": 0})
    rows = answer["choices"][0]["prompt_logprobs"][1:]
    own = [row[str(token)]["logprob"] for row, token in zip(rows, ids[1:], strict=True)]
    return difference(scores, own, cached)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
