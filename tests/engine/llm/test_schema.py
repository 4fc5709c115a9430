from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InputError
from engine.llm.schema import check_schema, faults, is_closed


@pytest.mark.parametrize(
    ("value", "schema", "fault"),
    [
        (3, {"type": "integer"}, None),
        (3.0, {"type": "integer"}, None),  # JSON Schema: a number with zero fraction is an integer
        (3.5, {"type": "integer"}, "number, not integer"),
        (True, {"type": "integer"}, "boolean, not integer"),
        (1, {"type": "boolean"}, "not boolean"),
        (None, {"type": ["string", "null"]}, None),
        (1, {"enum": [True]}, "not one of"),
        (1.0, {"enum": [1]}, None),
        ("b", {"const": "a"}, "is not 'a'"),
        (0, {"exclusiveMinimum": 0}, "not above 0"),
        (1, {"exclusiveMaximum": 1}, "not below 1"),
        ("ab", {"minLength": 3}, "length 2"),
        ([1, 2], {"maxItems": 1}, "length 2"),
        ([1, "x"], {"items": {"type": "integer"}}, r"\$\[1\]"),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, r"\$\.a"),
        ({"a": {"b": 2}}, {"properties": {"a": {"properties": {"b": {"maximum": 1}}}}}, r"\$\.a\.b"),
        ({"x": 1}, {}, None),
    ],
)
def test_faults(value: Any, schema: dict[str, Any], fault: str | None) -> None:
    found = list(faults(value, schema))
    if fault is None:
        assert found == []
    else:
        with pytest.raises(ValueError, match=fault):
            raise ValueError(found[0])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "propertys": {}}, "Did you mean 'properties'"),
        ({"properties": {"a": {"pattern": "x"}}}, r"schema at \$\.a"),
        ({"type": "int"}, "type 'int'"),
        ({"items": 3}, "a schema is a mapping"),
    ],
)
def test_a_schema_outside_of_the_subset_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_schema(schema)


def test_closed_means_every_key_required_and_no_other() -> None:
    inner: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert is_closed(inner)
    assert not is_closed({**inner, "required": []})
    assert not is_closed({**inner, "additionalProperties": True})
    assert not is_closed({**inner, "properties": {"a": {}}})
