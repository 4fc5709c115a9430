"""The records that flow through a training step.

source -> Prompt -> Request -> Rollout -> Group -> advantages -> loss

Shape letters: P prompts, G completions a prompt, B = P*G rollouts, T completion tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class Prompt:
    """One task: its text (or chat messages), its id, and the columns that rewards read."""

    id: str
    prompt: str | list[dict[str, Any]]
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Structure:
    """The form that a completion must have: all tokens that would break it have probability 0.

    `kind` and `value`: "regex" or "grammar" (EBNF) and its text, "choice" and a tuple of texts, or "json" and the
    text of a JSON schema.
    """

    kind: Literal["regex", "choice", "json", "grammar"]
    value: str | tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """n completions of one prompt, token ids in. `seed` fixes all n of them."""

    prompt_ids: tuple[int, ...]
    n: int
    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    structure: Structure | None = None


@dataclass(frozen=True)
class Rollout:
    """One completion, token ids out.

    `logprobs`: of the sampled tokens under the distribution that was sampled from (after
    temperature and truncation), a number a completion token. `text` is cut before a stop string.
    `weight_version`: the number of the weights that sampled it. `error`: why, for finish_reason "error".
    `prompt_ids`: the prompt that it was sampled under and is trained under, where that is another than its
    group's (a hint, say).
    """

    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    weight_version: int = 0
    error: str = ""
    prompt_ids: tuple[int, ...] | None = None


@dataclass
class Group:
    """The G rollouts of one prompt, with what became of them.

    `rewards`: the weighted sum a rollout, None where every reward function answered None;
    `reward_parts`: reward function -> a value a rollout; `answers`: what the reward extracted.
    `ref_logprobs`: log pi_ref of each completion, the sum over its tokens, where the method needs the reference.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    rollouts: list[Rollout]
    rewards: list[float | None] = field(default_factory=list)
    reward_parts: dict[str, list[float | None]] = field(default_factory=dict)
    answers: list[str | None] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    ref_logprobs: list[float] = field(default_factory=list)
