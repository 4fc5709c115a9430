"""The kinds of values that a parameter can have: what is accepted, how it is normalised, its schema."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

from engine.errors import ParamError

Kind = Literal["text", "number", "integer", "choice", "flag", "json", "code", "weights"]
Constraint = Callable[[Any], bool | str | None]
"""True or None: accepted; False or a sentence: refused, for that reason."""


def kind_of(value: object) -> Kind:
    """The kind that a first value implies. Raises ParamError."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, numbers.Integral):
        return "integer"
    if isinstance(value, numbers.Real):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict | list) or value is None:
        return "json"
    raise ParamError(
        f"a value of type {type(value).__name__} has no kind of its own",
        allowed="bool, int, float, str, list, dict, None; or say kind='weights'",
    )


@dataclass(frozen=True)
class Rule:
    """What values are accepted.

    ge, le: bounds of numbers and integers, both allowed; choices: of kind "choice"; constraint: any
    further condition, a function; container: of kind "json", the type that a value must keep.
    """

    kind: Kind
    ge: float | None = None
    le: float | None = None
    choices: tuple[Any, ...] = ()
    constraint: Constraint | None = None
    container: type | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ParamError(f"no kind '{self.kind}'", allowed=", ".join(get_args(Kind)))
        if (self.ge is not None or self.le is not None) and self.kind not in ("number", "integer"):
            raise ParamError(f"bounds on a parameter of kind {self.kind}", allowed="bounds on numbers and integers")
        if self.ge is not None and self.le is not None and self.ge > self.le:
            raise ParamError(f"ge={self.ge} is above le={self.le}", allowed="ge <= le")
        if (self.kind == "choice") != bool(self.choices):
            raise ParamError(
                f"kind {self.kind} with choices {self.choices}", allowed="choices and kind 'choice' together"
            )
        if self.constraint is not None and not callable(self.constraint):
            raise ParamError(
                f"the constraint is {self.constraint!r:.80}, and words cannot be enforced",
                allowed="a function of the value that answers True, False or a reason",
            )

    def check(self, value: Any) -> Any:
        """The value, normalised where that loses nothing ("5" and 5.0 are the integer 5). Raises ParamError."""
        value = _NORMALISE[self.kind](self, value)
        if self.ge is not None and value < self.ge:
            raise ParamError(f"{value!r} is below {self.ge}", allowed=self.bounds)
        if self.le is not None and value > self.le:
            raise ParamError(f"{value!r} is above {self.le}", allowed=self.bounds)
        if self.constraint is not None:
            _enforce(self.constraint, value)
        return value

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the accepted values."""
        if self.kind == "choice":
            return {"enum": list(self.choices)}
        if self.kind == "json":
            named = _CONTAINERS.get(self.container) if self.container else None
            return {"type": named} if named else {}
        bounds = {key: bound for key, bound in (("minimum", self.ge), ("maximum", self.le)) if bound is not None}
        return {"type": _JSON_TYPES[self.kind], **bounds}

    @property
    def bounds(self) -> str:
        """'0 <= number <= 1', 'integer >= 1', or the kind alone."""
        low = f"{self.ge} <= " if self.ge is not None and self.le is not None else ""
        high = f" <= {self.le}" if self.le is not None else f" >= {self.ge}" if self.ge is not None else ""
        return f"{low}{self.kind}{high}"


def _enforce(constraint: Constraint, value: Any) -> None:
    try:
        answer = constraint(value)
    except Exception as error:
        raise ParamError(f"{value!r:.200} makes the constraint raise {type(error).__name__}: {error}") from error
    if answer is False or isinstance(answer, str):
        name = getattr(constraint, "__name__", "the constraint")
        raise ParamError(f"{value!r:.200} is refused by {name}" + (f": {answer}" if answer else ""))


def _refuse(rule: Rule, value: Any, allowed: str | None = None) -> NoReturn:
    raise ParamError(f"{value!r:.200} ({type(value).__name__}) is no {rule.kind}", allowed=allowed or rule.bounds)


def _flag(rule: Rule, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    _refuse(rule, value, "true or false")


def _number(rule: Rule, value: Any) -> float:
    number = _float(rule, value)
    if not math.isfinite(number) or (isinstance(value, numbers.Integral) and int(number) != value):
        _refuse(rule, value, "a finite number that a float holds exactly")
    return number


def _float(rule: Rule, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        _refuse(rule, value)
    try:
        return float(value)
    except (ValueError, OverflowError):
        _refuse(rule, value)


def _integer(rule: Rule, value: Any) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    number = _float(rule, value)
    if not number.is_integer() or abs(number) > 2**53:
        _refuse(rule, value)
    return int(number)


def _text(rule: Rule, value: Any) -> str:
    if not isinstance(value, str):
        _refuse(rule, value)
    if any("\ud800" <= character <= "\udfff" for character in value):
        _refuse(rule, value, "text without halves of surrogate pairs, which no file or request can hold")
    return value


def _choice(rule: Rule, value: Any) -> Any:
    same = [choice for choice in rule.choices if type(choice) is type(value) and choice == value]
    written = [choice for choice in rule.choices if isinstance(value, str) and str(choice) == value]
    found = same or written
    return found[0] if len(found) == 1 else _refuse(rule, value, ", ".join(map(repr, rule.choices)))


def _json(rule: Rule, value: Any) -> Any:
    if isinstance(value, str) and rule.container in (dict, list):
        try:
            value = json.loads(value)
        except ValueError:
            _refuse(rule, value, "a JSON object or array")
    if rule.container is not None and not isinstance(value, rule.container):
        _refuse(rule, value, f"a JSON {_CONTAINERS.get(rule.container)}")
    try:
        copied = json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ParamError(f"not JSON: {error}", allowed="objects with text keys, arrays, text, finite numbers") from None
    return copied if copied == value else _refuse(rule, value, "a value that JSON gives back unchanged")


def _as_is(rule: Rule, value: Any) -> Any:
    return value


_NORMALISE: dict[Kind, Callable[[Rule, Any], Any]] = {
    "flag": _flag,
    "number": _number,
    "integer": _integer,
    "text": _text,
    "choice": _choice,
    "json": _json,
    "code": _text,
    "weights": _as_is,
}
_CONTAINERS: dict[type, str] = {dict: "object", list: "array"}
_JSON_TYPES: dict[Kind, str] = {
    "flag": "boolean",
    "number": "number",
    "integer": "integer",
    "text": "string",
    "code": "string",
    "weights": "string",
}
