"""Code repair: one function with four faults of eight, judged by test cases that say which part is wrong."""

from __future__ import annotations

import importlib.util
import itertools
import random
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.task import Found, Spec, Task, Values, Wrap, plain

SOURCE = '''def invoice(quantity: int, price: float, member: bool, country: str) -> float:
    """The amount of an invoice."""
    total = quantity {product} price
    if quantity {large} 10:
        total = total * {rebate}
    if member:
        total = total {credit} 5
    if total < {floor}:
        total = 0
    fee = {fee} if total {small} 50 else 0
    tax = {tax} if country == "de" else 0
    return round(total + fee + total * tax, 2)
'''

SITES: dict[str, tuple[tuple[str, ...], str]] = {
    "product": (("*", "+", "-"), "the price of several pieces"),
    "large": ((">=", ">", "<"), "an order of ten pieces or more"),
    "rebate": (("0.9", "0.8", "1.1"), "the rebate of a large order"),
    "credit": (("-", "+", "*"), "the credit of a member"),
    "floor": (("0", "10", "-10"), "a total below nothing"),
    "fee": (("4", "5", "3"), "the fee of a small total"),
    "small": (("<", "<=", ">"), "a total of about fifty"),
    "tax": (("0.2", "0.3", "0.02"), "the tax of a country"),
}
"""Site: what may stand there, the right one first; and what a failed test says of it."""

FAULTS = 4
_FOLDER = tempfile.TemporaryDirectory(prefix="invoice-")
_NUMBER = itertools.count()
Choices = dict[str, str]


def _source(choices: Choices) -> str:
    return SOURCE.format(**choices)


def _right(quantity: int, price: float, member: bool, country: str, total: float = 0.0) -> float:
    total = quantity * price * (0.9 if quantity >= 10 else 1) - (5 if member else 0)
    total = max(0.0, total)
    return round(total + (4 if total < 50 else 0) + total * (0.2 if country == "de" else 0), 2)


class Repair(Task):
    """The parameter is the source of `invoice`; a test passes (1) or fails (0)."""

    name = "code repair"
    objective = "Repair the function so that all test cases pass."

    def __init__(self, seed: int, train: int = 20, held_out: int = 60) -> None:
        rng = random.Random(f"repair/{seed}")
        wrong = rng.sample(list(SITES), FAULTS)
        choices = {
            name: rng.choice(options[1:]) if name in wrong else options[0] for name, (options, _) in SITES.items()
        }
        self.specs = [Spec("invoice", "code", _source(choices))]
        self.train = [_case(rng) for _ in range(train)]
        self.held_out = [_case(rng) for _ in range(held_out)]

    def program(self, wrap: Wrap) -> Callable[[Values, Any], Any]:
        """With a `wrap` that traces, the values are not read: the function is the parameter itself."""
        if wrap is plain:
            return lambda values, example: _executed(values["invoice"])(*example)
        traced = wrap(_imported(self.specs[0].value))
        return lambda values, example: traced(*example)

    def judge(self, example: Any, output: Any) -> tuple[float, str]:
        wanted = _right(*example)
        if abs(float(output) - wanted) < 0.005:
            return 1.0, "passed"
        return 0.0, f"invoice{tuple(example)} gave {output}, not {wanted}; look at " + " and ".join(_parts(example))

    def found(self, text: str) -> list[Found]:
        read = [(match.span(), _choices(match[0])) for match in re.finditer(_pattern(), text)]
        return [(*span, {"invoice": _source(choices)}) for span, choices in read]

    def improved(self, values: Values, text: str, skill: float, rng: random.Random) -> Values | None:
        """One of the sites that failed tests name is given another of its options."""
        named = [site for site, (_, part) in SITES.items() if part in text]
        if not named or rng.random() >= skill:
            return None
        return self._changed(values, rng.choice(named), rng)

    def varied(self, values: Values, rng: random.Random) -> Values:
        return self._changed(values, rng.choice(list(SITES)), rng)

    def crossed(self, one: Values, other: Values, rng: random.Random) -> Values:
        a, b = _choices(one["invoice"]), _choices(other["invoice"])
        return {"invoice": _source({site: rng.choice((a[site], b[site])) for site in SITES})}

    def _changed(self, values: Values, site: str, rng: random.Random) -> Values:
        choices = _choices(values["invoice"])
        other = rng.choice([option for option in SITES[site][0] if option != choices[site]])
        return {"invoice": _source({**choices, site: other})}


def _case(rng: random.Random) -> tuple[int, float, bool, str]:
    quantity = rng.choice((1, 2, 5, 9, 10, 11, 20))
    price = rng.choice((1.0, 2.5, 5.0, 10.0, 12.5))
    return quantity, price, rng.random() < 0.5, rng.choice(("de", "fr"))


def _parts(case: tuple[int, float, bool, str]) -> list[str]:
    """What of the function a case tests."""
    quantity, price, member, country = case
    total = quantity * price * (0.9 if quantity >= 10 else 1) - (5 if member else 0)
    tests = {
        "product": quantity > 1,
        "large": quantity >= 10,
        "rebate": quantity >= 10,
        "credit": member,
        "floor": total < 10,
        "fee": total < 50,
        "small": 40 <= total <= 60,
        "tax": country == "de",
    }
    return [SITES[site][1] for site, is_tested in tests.items() if is_tested] or ["the whole"]


def _pattern() -> str:
    """What finds the function in a text, whatever stands at its sites."""
    pattern = re.escape(SOURCE.rstrip())
    for site, (options, _) in SITES.items():
        chosen = "|".join(map(re.escape, sorted(options, key=len, reverse=True)))
        pattern = pattern.replace(re.escape("{" + site + "}"), f"({chosen})")
    # A run of white space becomes one quantifier: several in a row take time without end where nothing matches.
    return re.sub(r"(?:\\?\s)+", lambda m: r"\s+" if "\n" in m[0] else r"\s*", pattern).replace("'", "['\"]")


def _choices(source: str) -> Choices:
    match = re.search(_pattern(), source)
    if match is None:
        raise ValueError("the function does not stand in the text")
    return dict(zip(SITES, match.groups(), strict=True))


def _executed(source: str) -> Callable[..., Any]:
    """The function of a source; its text has the shape of SOURCE, else it is not run."""
    space: dict[str, Any] = {}
    exec(compile(_source(_choices(source)), "<invoice>", "exec"), space)
    return space["invoice"]


def _imported(source: str) -> Callable[..., Any]:
    """The function in a module of its own, as libraries that read sources want it."""
    name = f"invoice_{next(_NUMBER)}"
    file = Path(_FOLDER.name, f"{name}.py")
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.invoice
