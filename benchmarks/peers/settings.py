"""Tasks whose parameters are named numbers or choices: numeric graphs and noisy arms."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from peers.task import Found, Spec, Task, Values, Wrap

NUMBER = r"-?\d+(?:\.\d+)?(?:[eE]-?\d+)?"
GAP = 120
"""Settings of one candidate stand at most so many characters apart."""


class Settings(Task):
    """As one text: a line 'name = value' for each parameter."""

    def to_text(self, values: Values) -> str:
        return "\n".join(f"{spec.name} = {values[spec.name]}" for spec in self.specs)

    def from_text(self, text: str) -> Values:
        found = self.found(text)
        if not found or len(found[0][2]) < len(self.specs):
            raise ValueError("a line 'name = value' is wanted for each of " + ", ".join(s.name for s in self.specs))
        return {spec.name: self._read(spec, found[0][2][spec.name]) for spec in self.specs}

    def found(self, text: str) -> list[Found]:
        candidates: list[tuple[int, int, dict[str, Any]]] = []
        for start, end, name, value in self._settings(text):
            last = candidates[-1] if candidates else None
            if last is not None and name not in last[2] and start - last[1] <= GAP:
                candidates[-1] = (last[0], end, {**last[2], name: value})
            else:
                candidates.append((start, end, {name: value}))
        # Code of the program repeats names too; what shows all of them is a candidate.
        return [each for each in candidates if len(each[2]) == len(self.specs)] or candidates  # type: ignore[return-value]

    def varied(self, values: Values, rng: random.Random) -> Values:
        spec = rng.choice([s for s in self.specs if s.name in values])
        return {**values, spec.name: self._near(spec, values[spec.name], rng)}

    def crossed(self, one: Values, other: Values, rng: random.Random) -> Values:
        return {name: rng.choice((value, other.get(name, value))) for name, value in one.items()}

    def improved(self, values: Values, text: str, skill: float, rng: random.Random) -> Values | None:
        """Of outputs said to be too high or too low the majority decides which way one setting is moved."""
        high, low = len(re.findall("too high", text)), len(re.findall("too low", text))
        numbers = [s for s in self.specs if s.kind == "number" and s.name in values]
        if high == low or not numbers or rng.random() >= skill:
            return None
        spec = rng.choice(numbers)
        step = rng.uniform(0.01, 0.2) * (spec.le - spec.ge) * (-1 if high > low else 1)  # type: ignore[operator]
        return {**values, spec.name: _within(spec, float(values[spec.name]) + step)}

    def _near(self, spec: Spec, value: Any, rng: random.Random) -> Any:
        if spec.kind == "choice":
            return rng.choice([choice for choice in spec.choices if choice != value])
        width = spec.le - spec.ge  # type: ignore[operator]
        return _within(spec, rng.gauss(float(value), rng.choice((0.03, 0.15)) * width))

    def _read(self, spec: Spec, value: Any) -> Any:
        return value if spec.kind == "choice" else _within(spec, float(value))

    def _settings(self, text: str) -> Iterator[tuple[int, int, str, Any]]:
        """Where each setting stands, its name and value."""
        for match in re.finditer(self._pattern(), text):
            name = match["name"]
            spec = next(s for s in self.specs if s.name == name)
            if (spec.kind == "number") == bool(re.fullmatch(NUMBER, match["value"])):
                yield match.start(), match.end(), name, self._read(spec, match["value"])

    def _pattern(self) -> str:
        choices = sorted({c for s in self.specs for c in s.choices}, key=len, reverse=True)
        values = "|".join([NUMBER, *map(re.escape, choices)])
        names = "|".join(s.name for s in self.specs)
        return rf"\b(?P<name>{names})\d?\\?[\"']?\s*[:=]\s*\\?[\"']?(?P<value>{values})(?!\w)"


def _within(spec: Spec, value: float) -> float:
    return round(min(spec.le, max(spec.ge, value)), 4)  # type: ignore[type-var,return-value]


def scale(x: float, gain: float) -> float:
    """The input times the gain."""
    return gain * x


def shift(y: float, offset: float) -> float:
    """The offset added."""
    return y + offset


def bend(z: float, knee: float, slope: float) -> float:
    """The value up to the knee, and above it with the slope."""
    return min(z, knee) + slope * max(0.0, z - knee)


class Numeric(Settings):
    """Four numbers in three traced operations, to be set so that the outputs are right.

    Score: 1 - |output - wanted| / 20, at least 0. `told`: whether the feedback says what was wanted and that the
    output is too high or too low.
    """

    objective = "Set the numbers so that the outputs of the program are as wanted."

    def __init__(self, seed: int, told: bool, train: int = 20, held_out: int = 60) -> None:
        rng = random.Random(f"numeric/{seed}")
        self.name, self._told = ("numeric, told" if told else "numeric, scores alone"), told
        self._right = {
            "gain": rng.uniform(0.5, 4.5),
            "offset": rng.uniform(-8, 8),
            "knee": rng.uniform(8, 30),
            "slope": rng.uniform(0, 1),
        }
        limits = {"gain": (0.0, 5.0), "offset": (-10.0, 10.0), "knee": (0.0, 40.0), "slope": (0.0, 1.0)}
        starts = {"gain": 1.0, "offset": 0.0, "knee": 20.0, "slope": 0.5}
        self.specs = [Spec(n, "number", starts[n], ge=low, le=high) for n, (low, high) in limits.items()]
        self.train = [round(rng.uniform(0, 12), 2) for _ in range(train)]
        self.held_out = [round(rng.uniform(0, 12), 2) for _ in range(held_out)]

    def program(self, wrap: Wrap) -> Callable[[Values, Any], Any]:
        first, second, third = wrap(scale), wrap(shift), wrap(bend)
        return lambda v, x: third(second(first(x, v["gain"]), v["offset"]), v["knee"], v["slope"])

    def judge(self, example: Any, output: Any) -> tuple[float, str]:
        r = self._right
        wanted = bend(shift(scale(example, r["gain"]), r["offset"]), r["knee"], r["slope"])
        error = float(output) - wanted
        way = "right" if abs(error) < 0.2 else "too high" if error > 0 else "too low"
        text = f"for the input {example} the output {float(output):.2f} is {way}, wanted was {wanted:.2f}"
        return max(0.0, 1 - abs(error) / 20), text if self._told else ""


TONES = ("plain", "formal", "warm", "terse", "vivid", "dry")
ORDERS = ("newest", "oldest", "shortest", "longest", "random")


def respond(tone: str, order: str, customer: int) -> str:
    """An answer to a customer in a tone, with the items in an order."""
    return f"customer {customer}: {tone}, {order}"


class Arms(Settings):
    """Thirty combinations of two choices; a score is the combination's mean (.2 to .8) and noise of sd .25.

    Every run draws its noise anew, and nothing else is told. What counts is the mean of the arm that is returned.
    """

    name = "noisy arms"
    objective = "Choose the tone and the order that customers rate best."
    noise = 0.25

    def __init__(self, seed: int, train: int = 20, held_out: int = 1) -> None:
        rng = random.Random(f"arms/{seed}")
        self._rng = random.Random(f"arms/noise/{seed}")
        raw = {(t, o): 0.0 for t in TONES for o in ORDERS}
        tones, orders = {t: rng.gauss(0, 1) for t in TONES}, {o: rng.gauss(0, 1) for o in ORDERS}
        for t, o in raw:
            raw[t, o] = tones[t] + orders[o] + rng.gauss(0, 0.7)
        low, high = min(raw.values()), max(raw.values())
        self._means = {arm: 0.2 + 0.6 * (value - low) / (high - low) for arm, value in raw.items()}
        self.best = 0.8
        self.specs = [
            Spec("tone", "choice", rng.choice(TONES), choices=TONES),
            Spec("order", "choice", rng.choice(ORDERS), choices=ORDERS),
        ]
        self.train, self.held_out = list(range(train)), list(range(train, train + held_out))

    def program(self, wrap: Wrap) -> Callable[[Values, Any], Any]:
        answer = wrap(respond)
        return lambda values, example: answer(values["tone"], values["order"], example)

    def judge(self, example: Any, output: Any) -> tuple[float, str]:
        tone, order = str(output).partition(": ")[2].split(", ")
        return self._rng.gauss(self._means[tone, order], self.noise), ""

    def true_score(self, values: Values) -> float:
        return self._means[values["tone"], values["order"]]
