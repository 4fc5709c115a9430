"""The measures of TOFU (2401.06121) and of extraction: what a model knows of a set, and what is left of its use.

All are numbers in [0, 1]. Of the set to forget, a high truth ratio score and forget quality are good; of all others,
high values of everything are. Nothing here needs a model: log-probs, tokens and texts go in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from engine.errors import InputError

_WORD = re.compile(r"[a-z0-9]+")


def rouge_l_recall(text: str, answer: str) -> float:
    """The longest common subsequence of words in both, as a share of the answer's words (0 for an answer without one).

    Words are runs of a-z and 0-9 in lower case. TOFU stems them first; here they must be equal.
    """
    words, wanted = _WORD.findall(text.lower()), _WORD.findall(answer.lower())
    lengths = [0] * (len(wanted) + 1)
    for word in words:
        before = lengths
        lengths = [0]
        for i, other in enumerate(wanted):
            lengths.append(before[i] + 1 if word == other else max(before[i + 1], lengths[i]))
    return lengths[-1] / len(wanted) if wanted else 0.0


def truth_ratio(paraphrased: float, perturbed: Sequence[float]) -> float:
    """mean_k exp(perturbed_k) / exp(paraphrased), from mean log-probs a token: above 1 where what is wrong is likelier.

    paraphrased: of the right answer in other words; perturbed: of K wrong answers of its form.
    """
    return math.fsum(math.exp(min(value - paraphrased, 700.0)) for value in perturbed) / len(perturbed)


def truth_score(ratio: float, *, is_forgotten: bool = False) -> float:
    """max(0, 1 - ratio), high where the right answer is likelier than wrong ones; of the set to forget
    min(ratio, 1 / ratio), high where right and wrong answers are equally likely."""
    if is_forgotten:
        return min(ratio, 1 / ratio) if ratio > 0 else 0.0
    return max(0.0, 1 - ratio)


def choice_probability(answer: float, wrong: Sequence[float]) -> float:
    """exp(answer) / (exp(answer) + sum exp(wrong)), from mean log-probs a token: of a set of general knowledge, where
    an answer's own probability says little."""
    return 1 / (1 + math.fsum(math.exp(min(value - answer, 700.0)) for value in wrong))


def model_utility(values: Sequence[float]) -> float:
    """The harmonic mean; TOFU's is of nine: probability, ROUGE-L and truth score of three sets that should stay.

    0 as soon as one is 0. Raises InputError without values and for negative ones.
    """
    if not values or min(values) < 0:
        raise InputError(f"the harmonic mean of {list(values)}", allowed="one or more numbers from 0 to 1")
    return 0.0 if min(values) == 0 else len(values) / math.fsum(1 / value for value in values)


def extraction_strength(matches: Sequence[bool]) -> float:
    """1 - k/T, k the shortest beginning of an answer of T tokens after which greedy decoding says the rest.

    matches: whether each greedy token, after the answer so far, is the answer's. 0 where the last one is not.
    """
    missed = next((k for k in range(len(matches), 0, -1) if not matches[k - 1]), 0)
    return 1 - missed / len(matches) if len(matches) else 0.0


def forget_quality(ratios: Sequence[float], retained: Sequence[float]) -> float:
    """How well the truth ratios of the set to forget pass for those of a model that never saw it: p of ks_test."""
    return ks_test(ratios, retained)[1]


def ks_test(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """(D, p): the largest distance of two empirical distribution functions, and the chance of one as large.

    Exact and two-sided: of the orders in which n and m numbers of one distribution can stand, the share whose D is as
    large. Takes n * m additions of integers. Raises InputError for an empty sample and for values that are not numbers.
    """
    n, m = len(first), len(second)
    if not n or not m or any(math.isnan(value) for value in (*first, *second)):
        raise InputError(f"a comparison of {n} and {m} values", allowed="two samples of one number or more, none NaN")
    largest = _largest_distance(sorted(first), sorted(second))
    return largest / (n * m), _share_as_far(n, m, largest)


def _largest_distance(first: list[float], second: list[float]) -> int:
    """n m D, an integer."""
    n, m = len(first), len(second)
    i = j = largest = 0
    while i < n and j < m:
        value = min(first[i], second[j])
        while i < n and first[i] == value:
            i += 1
        while j < m and second[j] == value:
            j += 1
        largest = max(largest, abs(i * m - j * n))
    return largest


def _share_as_far(n: int, m: int, largest: int) -> float:
    """The share of the lattice paths from (0, 0) to (n, m) with |i m - j n| >= largest somewhere."""
    if largest == 0:
        return 1.0
    near = [1 if j * n < largest else 0 for j in range(m + 1)]
    for j in range(1, m + 1):
        near[j] *= near[j - 1]
    for i in range(1, n + 1):
        near[0] = near[0] if i * m < largest else 0
        for j in range(1, m + 1):
            near[j] = near[j] + near[j - 1] if abs(i * m - j * n) < largest else 0
    total = math.comb(n + m, n)
    return (total - near[m]) / total
