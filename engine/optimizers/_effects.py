"""What each value of each parameter adds to the score, and the combinations that should score best by it."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.optimizers.base import Evaluation, values_key

SWEEPS = 20
ENUMERATED = 4096
"""Up to so many combinations are all looked at; of more, so many are drawn."""

Effects = Mapping[str, Mapping[str, tuple[Any, float]]]
"""Parameter -> key of a value -> the value and its effect."""


def main_effects(history: Sequence[Evaluation], names: Sequence[str], *, ridge: float = 1.0) -> Effects:
    """The effects e of the additive model score = mean + e(value of the first) + e(value of the second) + ...

    Ridge regression by coordinate descent: an effect is the mean residual of the evaluations with that value, each
    counted once and a zero `ridge` times. Evaluations without a score or with a failed run are left out.
    """
    sound = [e for e in history if e.score is not None and not any(e.failed)]
    values = {(name, i): e.candidate.values[name] for i, e in enumerate(sound) for name in names}
    keys = {place: values_key({place[0]: value}) for place, value in values.items()}
    mean = math.fsum(e.score or 0.0 for e in sound) / max(1, len(sound))
    effects = {name: {keys[name, i]: 0.0 for i in range(len(sound))} for name in names}
    for _ in range(SWEEPS if len(names) > 1 else 1):
        for name in names:
            residuals: dict[str, list[float]] = defaultdict(list)
            for i, evaluation in enumerate(sound):
                others = math.fsum(effects[other][keys[other, i]] for other in names if other != name)
                residuals[keys[name, i]].append((evaluation.score or 0.0) - mean - others)
            effects[name] = {key: math.fsum(found) / (len(found) + ridge) for key, found in residuals.items()}
    return {
        name: {keys[name, i]: (values[name, i], effects[name][keys[name, i]]) for i in range(len(sound))}
        for name in names
    }


def best_combinations(effects: Effects, parents: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Combinations of the `parents` best values of each parameter, by the sum of their effects, best first."""
    pools = [sorted(known.values(), key=lambda pair: -pair[1])[:parents] for known in effects.values()]
    if math.prod(map(len, pools)) <= ENUMERATED:
        combinations = list(itertools.product(*pools))
    else:
        combinations = [tuple(map(rng.choice, pools)) for _ in range(ENUMERATED)]
    combinations.sort(key=lambda chosen: -math.fsum(effect for _, effect in chosen))
    for chosen in combinations:
        yield {name: value for name, (value, _) in zip(effects, chosen, strict=True)}
