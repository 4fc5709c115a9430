"""1 where the completion gives the hidden part of a program triplet (see rl.triplets). Functions run in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from rl.rewards.base import Completion, text_of
from rl.triplets import FORMS, Limits, Triplet, are_right


def triplet(
    prompts: Sequence[Any],
    completions: Sequence[Completion],
    completion_ids: Sequence[Sequence[int]],
    triplet: Sequence[Mapping[str, Any]],
    timeout_s: float | None = None,
) -> list[float | None]:
    """1.0 where the answer is right, else 0.0; None for completions of prompts that ask for a proposal.

    The column `triplet` is that of the source of this name. Deduction: a literal equal to the output in value and
    exact type. Abduction: arguments of which f gives the output. Induction: a function that is right on the pairs that
    were not shown. Programs run within the `limits` of the source; timeout_s: of one run, instead of the source's.
    """
    values: list[float | None] = []
    for row, parts in groupby(zip(triplet, completions, strict=True), key=lambda pair: pair[0]):
        texts = [completion for _, completion in parts]
        if row["role"] == "propose":
            values += [None] * len(texts)
        else:
            answers = [extract(text, triplet=row) for text in texts]
            values += map(float, are_right(Triplet.of(row), answers, _limits(row, timeout_s)))
    return values


def extract(completion: Completion, triplet: Mapping[str, Any], **row: Any) -> str | None:
    """What stands where the form has its answer; None where the completion is not of that form."""
    return FORMS[triplet["form"]].answer(triplet["role"], triplet["task"], text_of(completion))


def _limits(row: Mapping[str, Any], timeout_s: float | None) -> Limits:
    known = Limits.of(row["limits"]) if "limits" in row else Limits()
    return known if timeout_s is None else replace(known, timeout_s=timeout_s)


triplet.extract = extract  # type: ignore[attr-defined]

REWARD = triplet
