"""Whether a candidate replaces the current values: tests on the same examples, and intervals.

Scores go by example; None marks a run that failed or was not scored.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from engine.errors import InputError, UnknownName

Scores = Sequence[float | None]

EXACT = 12
"""Up to so many non-zero differences all sign patterns are enumerated (2^12 sums)."""


@dataclass(frozen=True)
class Verdict:
    """What a rule decided: `difference` is the mean paired difference, `p` the test's, if it made one."""

    accepted: bool
    reason: str
    difference: float | None = None
    p: float | None = None


Rule = Callable[[Scores, Scores], Verdict]
"""Called with the candidate's and the current scores on the same examples."""


def sign_flip_p(differences: Sequence[float]) -> float:
    """P(sum of +-d_i >= sum of d_i) under random signs: the one-sided paired sign-flip test.

    Zero differences carry no information and are left out. Exact where all |d_i| are equal (the
    sign test's binomial tail, as with right/wrong scores) and for up to EXACT differences;
    beyond, the normal approximation of the flip distribution, which has mean 0 and variance
    sum d_i^2. Without a non-zero difference p is 1.
    """
    values = [d for d in differences if d != 0]
    if not values:
        return 1.0
    magnitudes = {abs(d) for d in values}
    if len(magnitudes) == 1:
        positive = sum(d > 0 for d in values)
        tail = sum(math.comb(len(values), k) for k in range(positive, len(values) + 1))
        return float(tail / 2 ** len(values))
    total = math.fsum(values)
    if len(values) <= EXACT:
        sums = [math.fsum(signs) for signs in itertools.product(*((d, -d) for d in values))]
        slack = 1e-12 * max(magnitudes)
        return sum(s >= total - slack for s in sums) / len(sums)
    return NormalDist().cdf(-total / math.sqrt(math.fsum(d * d for d in values)))


def paired(level: float = 0.1, min_examples: int = 8) -> Rule:
    """Accept a mean paired difference > 0 whose one-sided sign-flip p is at most `level`.

    With fewer than `min_examples` common examples the smallest p that can be reached says little, so
    the rule is then `better`. The test guards against luck on one candidate; it is not corrected
    for the number of candidates tried, which is what the validation interval is for.
    """
    if not 0 < level <= 1:
        raise InputError(f"acceptance level is {level!r}", allowed="0 < level <= 1")

    def rule(new: Scores, old: Scores) -> Verdict:
        verdict = better(new, old)
        common = _common(new, old)
        if not verdict.accepted or len(common) < min_examples or _failures(new) < _failures(old):
            return verdict
        p = sign_flip_p([a - b for a, b in common])
        sign = "<=" if p <= level else ">"
        return Verdict(p <= level, f"{verdict.reason}, p = {p:.3g} {sign} {level:g}", verdict.difference, p)

    return rule


def better(new: Scores, old: Scores) -> Verdict:
    """Accept fewer failed runs at no lower mean, or equally many at a higher mean on common examples.

    A candidate that fails where the current values did not is refused whatever its mean is.
    """
    common = _common(new, old)
    difference = fmean(a - b for a, b in common) if common else None
    more = _failures(new) - _failures(old)
    if more > 0:
        return Verdict(False, f"{more} more failed runs", difference)
    if more < 0:
        fine = difference is None or difference >= 0
        return Verdict(fine, f"{-more} fewer failed runs" + ("" if fine else ", but a lower mean"), difference)
    if difference is None:
        return Verdict(False, "no scores to compare")
    return Verdict(difference > 0, f"mean difference {difference:+.4g} on {len(common)} examples", difference)


def latest(new: Scores, old: Scores) -> Verdict:
    """Accept every proposal: all that can be done where feedback has no scores to compare."""
    return Verdict(True, "no scores: the newest valid proposal is taken")


RULES: Mapping[str, Rule] = {"paired": paired(), "better": better}


def resolve_rule(accept: str | Rule) -> Rule:
    """The rule of that name, or the callable itself. Raises UnknownName or InputError."""
    if callable(accept):
        return accept
    if not isinstance(accept, str):
        raise InputError(f"accept is {accept!r}", allowed=", ".join(RULES) + ", or a callable (new, old) -> Verdict")
    if accept not in RULES:
        raise UnknownName("acceptance rule", accept, RULES)
    return RULES[accept]


@dataclass(frozen=True)
class Interval:
    """A mean score on n examples with its 95 % bootstrap interval."""

    score: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.score:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"


def bootstrap_interval(values: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean and its 95 % percentile bootstrap interval; deterministic for a seed. Raises InputError if empty."""
    if not values:
        raise InputError("no scores to make an interval of", allowed="at least one scored example")
    n = len(values)
    counts = Counter(values)
    # Scores of few distinct values (right/wrong) need a count a value, not a draw an example.
    distinct, weights = list(counts), [counts[v] for v in counts]
    rng = random.Random(seed)
    means = sorted(math.fsum(rng.choices(distinct, weights, k=n)) / n for _ in range(resamples))
    cut = int(0.025 * resamples)
    return Interval(fmean(values), means[cut], means[-1 - cut], n)


def _common(new: Scores, old: Scores) -> list[tuple[float, float]]:
    """The pairs of examples that both runs scored."""
    if len(new) != len(old):
        raise InputError(f"{len(new)} scores against {len(old)}", allowed="the same examples in the same order")
    return [(a, b) for a, b in zip(new, old, strict=True) if a is not None and b is not None]


def _failures(scores: Scores) -> int:
    return sum(s is None for s in scores)
