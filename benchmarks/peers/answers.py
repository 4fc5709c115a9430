"""Values written in the form that a prompt asks for: JSON, tags, fences, brackets, SEARCH/REPLACE blocks or plain."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from peers.task import Task, Values

TAG = re.compile(r"between the <([A-Z_]+)> tags|between <([A-Z_]+)> ")
NOTE = "The change follows from what is shown."


def asks_for_feedback(text: str) -> bool:
    """Whether criticism is asked for, and no new value."""
    return bool(re.search(r"give feedback (?:and criticism )?to (?:the|a) variable", text))


def answer_in_form(
    task: Task, request: Mapping[str, Any], text: str, base: Values, values: Values, only: str | None
) -> str:
    """The values in the form that the request asks for. `base`: the values that were edited.

    `only`: the name of the parameter that is asked for alone.
    """
    if only is not None:
        return str(values[only])
    schema = _schema(request)
    if schema is not None:
        return json.dumps(_filled(schema, task, values, None))
    if "<<<<<<< SEARCH" in text:
        return _blocks(task, text, base, values)
    if tag := TAG.search(text):
        name = tag[1] or tag[2]
        return f"<{name}>{task.to_text(values)}</{name}>"
    if '"suggestion"' in text:
        return json.dumps({"reasoning": NOTE, "answer": "", "suggestion": _named(text, values)})
    if re.search(r"square brackets", text):
        return f"[{task.to_text(values)}]"
    if re.search(r"```", text):
        return f"{NOTE}\n```\n{task.to_text(values)}\n```"
    return task.to_text(values)


def _schema(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema of the answer, of the request or told at the end of its last message."""
    asked = request.get("response_format") or {}
    if asked.get("type") == "json_schema":
        found: Mapping[str, Any] = asked["json_schema"]["schema"]
        return found
    return None


def _filled(schema: Mapping[str, Any], task: Task, values: Values, name: str | None) -> Any:
    """A value of the schema: what has a parameter's name is its value, what has no name that is known a note."""
    if name in values:
        return values[name]
    kind = schema.get("type")
    if kind == "object":
        known = schema.get("properties", {})
        required = set(schema.get("required", ())) | (known.keys() & values.keys()) | {"suggestion"} & known.keys()
        return {key: _filled(known[key], task, values, key) for key in known if key in required}
    if kind == "array":
        return [_filled(schema.get("items", {}), task, values, None)] * max(1, schema.get("minItems", 1))
    if "enum" in schema:
        return schema["enum"][0]
    plain = {"number": 0.5, "integer": 1, "boolean": True, "null": None}
    if kind in plain:
        return plain[str(kind)]
    return task.to_text(values) if name in ("prompt", "value", "text", "strategy", "candidate") else NOTE


def _named(text: str, values: Values) -> dict[str, Any]:
    """The values under the names that the text has for its variables: 'gain0', '__code0'."""
    found = {}
    for name, value in values.items():
        seen = re.search(rf"\([a-z]+\) ({name}\d*)\s*=", text) or re.search(r"\(code\) (__code\d*):", text)
        found[seen[1] if seen else name] = value
    return found


def _blocks(task: Task, text: str, base: Values, values: Values) -> str:
    """The change as SEARCH/REPLACE blocks: of the whole text, or where several names are to be told of each value."""
    if "name behind SEARCH" in text and len(values) > 1:
        named = [
            f"<<<<<<< SEARCH {name}\n{json.dumps(base[name])}\n=======\n{json.dumps(value)}\n>>>>>>> REPLACE"
            for name, value in values.items()
            if value != base[name]
        ]
        return NOTE + "\n\n" + "\n".join(named)
    return _diff(task.to_text(base), task.to_text(values))


def _diff(old: str, new: str) -> str:
    """The changed lines as blocks."""
    pairs = list(zip(old.splitlines(), new.splitlines(), strict=False))
    blocks = [f"<<<<<<< SEARCH\n{a}\n=======\n{b}\n>>>>>>> REPLACE" for a, b in pairs if a != b]
    return NOTE + "\n\n" + "\n".join(blocks)
