"""Successive halving over examples: candidates that do badly on a few are spared the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.optimizers.base import Candidate, Evaluation

LEAST = 4
"""Examples of the first round: fewer tell candidates apart by luck."""


@dataclass(frozen=True)
class Round:
    """So many candidates are run on so many examples."""

    candidates: int
    examples: int


def rounds(candidates: int, examples: int, eta: int, *, least: int = LEAST) -> list[Round]:
    """The rounds of successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943).

    Round i of s + 1 has ceil(candidates / eta^i) candidates on ceil(examples / eta^(s - i)) examples; s is the largest
    with one candidate left for the last round and `least` examples in the first.
    """
    most = 0
    while eta ** (most + 1) <= candidates and math.ceil(examples / eta ** (most + 1)) >= least:
        most += 1
    return [Round(math.ceil(candidates / eta**i), math.ceil(examples / eta ** (most - i))) for i in range(most + 1)]


def halved(
    candidates: Sequence[Candidate],
    order: Sequence[int],
    eta: int,
    evaluate: Callable[[Sequence[Candidate], Sequence[int]], list[Evaluation]],
) -> list[Evaluation]:
    """Each candidate's evaluation on the examples of the last round that it was in, in the order of the candidates.

    order: the examples, those of the first round first. evaluate: may give fewer evaluations than it was given
    candidates, where a budget ends; the rounds then end too. Of equal candidates
    the earlier one stays; the best are run first.
    """
    found: dict[int, Evaluation] = {}
    standing = list(range(len(candidates)))
    for each in rounds(len(candidates), len(order), eta):
        if found:
            standing = sorted(standing, key=lambda i: found[i].rank, reverse=True)[: each.candidates]
        evaluations = evaluate([candidates[i] for i in standing], sorted(order[: each.examples]))
        found.update(zip(standing, evaluations, strict=False))
        if len(evaluations) < len(standing):
            break
    return [found[i] for i in sorted(found)]
