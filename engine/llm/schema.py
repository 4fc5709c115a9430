"""The subset of JSON schema that answers are constrained with, and its exact check.

Known: type (a name or a list of names), enum, const, minimum, maximum, exclusiveMinimum,
exclusiveMaximum, minLength, maxLength, properties, required, additionalProperties, items,
minItems, maxItems; title, description, default, examples and $schema say nothing about a value.
A schema that uses anything else is refused: a constraint that is not checked is worse than none.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.errors import InputError, did_you_mean

Schema = Mapping[str, Any]

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
CHECKED = {
    *("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
}
KEYWORDS = CHECKED | {"title", "description", "default", "examples", "$schema"}

_Bounds = dict[str, tuple[Callable[[Any, Any], bool], str]]
_NUMBER_BOUNDS: _Bounds = {
    "minimum": (operator.lt, "below the minimum"),
    "maximum": (operator.gt, "above the maximum"),
    "exclusiveMinimum": (operator.le, "not above"),
    "exclusiveMaximum": (operator.ge, "not below"),
}
_LENGTH_BOUNDS: _Bounds = {"minLength": (operator.lt, "below"), "maxLength": (operator.gt, "above")}
_ITEM_BOUNDS: _Bounds = {"minItems": (operator.lt, "below"), "maxItems": (operator.gt, "above")}


def check_schema(schema: Schema, path: str = "$") -> None:
    """Refuse a schema outside the known subset. Raises InputError naming the keyword and its place."""
    if not isinstance(schema, Mapping):
        raise InputError(f"a schema is a mapping, not {type(schema).__name__}", place=f"schema at {path}")
    for keyword in schema:
        if keyword not in KEYWORDS:
            raise InputError(
                f"schema keyword '{keyword}' is not supported.{did_you_mean(str(keyword), KEYWORDS)}",
                place=f"schema at {path}",
                allowed=", ".join(sorted(KEYWORDS)),
            )
    for name in type_names(schema):
        if name not in TYPES:
            raise InputError(
                f"schema type '{name}' is not known.{did_you_mean(name, TYPES)}",
                place=f"schema at {path}",
                allowed=", ".join(TYPES),
            )
    for step, inner in _inner(schema):
        check_schema(inner, path + step)


def faults(value: Any, schema: Schema, path: str = "$") -> Iterator[str]:
    """Every way in which a value breaks a checked schema, as '$.threshold: 7 is above the maximum 1'."""
    names = type_names(schema)
    if names and not any(TYPES[name](value) for name in names):
        yield f"{path}: {_short(value)} is {_kind(value)}, not {' or '.join(names)}"
        return
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a finite number"
        return
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        yield f"{path}: the text holds half of a surrogate pair"
        return
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{path}: {_short(value)} is not {_short(schema['const'])}"
    if "enum" in schema and not any(_same(value, choice) for choice in schema["enum"]):
        yield f"{path}: {_short(value)} is not one of {', '.join(_short(choice) for choice in schema['enum'])}"
    yield from _bounds(value, schema, path)
    if isinstance(value, dict):
        yield from _object_faults(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), f"{path}[{index}]")


def type_names(schema: Schema) -> list[str]:
    """The types that a schema allows; empty where it allows any."""
    names = schema.get("type", [])
    return [names] if isinstance(names, str) else list(names)


def is_closed(schema: Schema) -> bool:
    """Whether every object names all its keys as required: what strict structured outputs ask for."""
    own = "object" not in type_names(schema) or (
        schema.get("additionalProperties") is False
        and set(schema.get("properties", {})) == set(schema.get("required", ()))
    )
    typed = bool(type_names(schema)) or "enum" in schema or "const" in schema
    return own and typed and all(is_closed(inner) for _, inner in _inner(schema))


def _inner(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas directly inside a schema, each with its step in a path."""
    for key, inner in schema.get("properties", {}).items():
        yield f".{key}", inner
    if "items" in schema:
        yield "[]", schema["items"]
    if isinstance(extra := schema.get("additionalProperties"), Mapping):
        yield ".*", extra


def _object_faults(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{path}: the key '{key}' is missing"
    for key, item in value.items():
        if key in properties:
            yield from faults(item, properties[key], f"{path}.{key}")
        elif extra is False:
            yield f"{path}: unknown key '{key}'.{did_you_mean(key, properties)} Allowed: {', '.join(properties)}"
        elif isinstance(extra, Mapping):
            yield from faults(item, extra, f"{path}.{key}")


def _bounds(value: Any, schema: Schema, path: str) -> Iterator[str]:
    """Faults against the bounds of a number, or of the length of a string or list."""
    if TYPES["number"](value):
        tests, measure, shown = _NUMBER_BOUNDS, value, _short(value)
    elif isinstance(value, str):
        tests, measure, shown = _LENGTH_BOUNDS, len(value), f"the text's length {len(value)}"
    elif isinstance(value, list):
        tests, measure, shown = _ITEM_BOUNDS, len(value), f"the list's length {len(value)}"
    else:
        return
    for keyword, (breaks, words) in tests.items():
        if keyword in schema and breaks(measure, schema[keyword]):
            yield f"{path}: {shown} is {words} {schema[keyword]}"


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, but True does not equal 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _kind(value: Any) -> str:
    return next(name for name, test in reversed(TYPES.items()) if test(value))


def _short(value: Any) -> str:
    return f"{value!r:.60}"
