"""Skills of the test server: simulated models that know what to answer, so that what is tested is who asks.

A skill is a function (messages, request) -> text. `request` is the body of the request, its `seed` being that of the
choice: a number made of the server's seed, the whole request and the choice's index. A skill that draws all
it draws from `random.Random(request["seed"])` answers equal requests equally, in whatever order they come.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]

_TYPES = {bool: "boolean", int: "integer", float: "number"}
WORDS = ("short", "clear", "step", "check", "answer", "number", "only", "think", "first", "again")


def echo(messages: Messages, request: Mapping[str, Any]) -> str:
    """The text of the last message."""
    return _text(messages[-1])


def random_values(messages: Messages, request: Mapping[str, Any]) -> str:
    """A value drawn at random from those that the request's JSON schema allows; without a schema a few words."""
    rng = random.Random(request["seed"])
    schema = schema_of(request)
    return _words(rng) if schema is None else json.dumps(random_value(schema, rng), ensure_ascii=False)


class Proposer:
    """A simulated proposer: with probability `p` a value that it is asked for is nearer to a hidden target.

    targets: the best value of each parameter by its name. A number goes half of the way from the value that the
    request shows (whole numbers at least 1), a text gets one more word of the target right, any other value
    becomes the target. With probability 1 - p the value is drawn at random from those allowed. The draws of
    parameters are independent of each other and depend on the request and the server's seed alone.

    Two kinds of requests are understood, which are those of the engine's optimizers: with a JSON schema, whose
    properties of these names are filled, `name = value` in the messages being the value that it has; and
    without one, a conversation of which the assistant's last turn is the best value so far and a user's turn
    holds the parameter's name or, in `asks`, its words, the system's message its limits.
    """

    def __init__(self, targets: Mapping[str, Any], *, p: float = 0.5, asks: Mapping[str, str] | None = None) -> None:
        self.targets, self.p, self.asks = dict(targets), p, dict(asks or {})

    def __call__(self, messages: Messages, request: Mapping[str, Any]) -> str:
        rng = random.Random(request["seed"])
        schema = schema_of(request)
        if schema is not None:
            shown = "\n".join(_text(message) for message in messages)
            return json.dumps(self._filled(schema, "", shown, rng), ensure_ascii=False)
        name = self._asked([_text(message) for message in messages if message["role"] == "user"])
        turns = [_text(message) for message in messages if message["role"] == "assistant"]
        limits = _limits("\n".join(_text(message) for message in messages if message["role"] == "system"))
        value = self._value(name, _read(turns[-1]) if turns else None, limits, rng)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def _filled(self, schema: Mapping[str, Any], name: str, shown: str, rng: random.Random) -> Any:
        """A value that the schema allows, the parameters in it being proposed."""
        if name in self.targets:
            return self._value(name, _shown(name, shown), schema, rng)
        if "properties" in schema:
            return {key: self._filled(inner, key, shown, rng) for key, inner in schema["properties"].items()}
        return random_value(schema, rng)

    def _value(self, name: str, now: Any, schema: Mapping[str, Any], rng: random.Random) -> Any:
        target = self.targets[name]
        if rng.random() < self.p:
            return nearer(now, target)
        if isinstance(target, dict | list) and not schema:
            return type(target)()
        return random_value({"type": _TYPES.get(type(target), "string"), **schema}, rng)

    def _asked(self, told: Sequence[str]) -> str:
        """The parameter that the latest message names; of several there the one with the longest name."""
        for text in reversed(told):
            words = {name: self.asks.get(name, name) for name in self.targets}
            named = [name for name, word in words.items() if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
            if named:
                return max(named, key=len)
        return next(iter(self.targets))


def nearer(now: Any, target: Any) -> Any:
    """A value between what is and what is best."""
    if isinstance(target, bool) or not isinstance(target, int | float | str) or type(now) is bool:
        return target
    if isinstance(target, str):
        return _more_right(now, target) if isinstance(now, str) else target
    if not isinstance(now, int | float):
        return target
    if isinstance(target, int):
        return target if abs(target - now) <= 1 else round((now + target) / 2)
    return (now + target) / 2


def random_value(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A value that the schema allows (of the subset that engine.llm.schema knows)."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(list(schema["enum"]))
    names = schema.get("type", "string")
    name = names if isinstance(names, str) else rng.choice(list(names))
    if name in ("number", "integer"):
        return _number(schema, name == "integer", rng)
    if name == "object":
        return {key: random_value(inner, rng) for key, inner in schema.get("properties", {}).items()}
    if name == "array":
        low = int(schema.get("minItems", 0))
        count = rng.randint(low, int(schema.get("maxItems", low + 3)))
        return [random_value(schema.get("items", {}), rng) for _ in range(count)]
    if name == "string":
        text = _words(rng)
        text += "x" * (int(schema.get("minLength", 0)) - len(text))
        return text[: int(schema.get("maxLength", len(text)))]
    return None if name == "null" else rng.random() < 0.5


def schema_of(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema of the request's response_format, if it has one."""
    schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema")
    return schema if isinstance(schema, Mapping) else None


def _number(schema: Mapping[str, Any], is_whole: bool, rng: random.Random) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    low = (high - 20 if high is not None else -10) if low is None else low
    high = low + 20 if high is None else high
    if is_whole:
        return rng.randint(int(low) + ("exclusiveMinimum" in schema), int(high) - ("exclusiveMaximum" in schema))
    share = rng.uniform(0.001, 0.999)  # not a bound itself, which may be excluded
    return round(low + share * (high - low), 6)


def _limits(text: str) -> dict[str, Any]:
    """The limits of a value as the engine's optimizers tell them, as a JSON schema."""
    found: dict[str, Any] = {}
    for words, keyword in (("at least", "minimum"), ("at most", "maximum")):
        if told := re.search(rf"{words} (-?[\d.]+(?:e[+-]?\d+)?)", text):
            found[keyword] = float(told[1].rstrip("."))
    if told := re.search(r"one of (.*)", text):
        found["enum"] = [json.loads(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"|-?\d[\d.]*', told[1].rstrip("."))]
    return {key: value for key, value in found.items() if value != []}


def _more_right(now: str, target: str) -> str:
    """The text with the first word that differs from the target's put right."""
    have, want = now.split(), target.split()
    right = next((i for i, (a, b) in enumerate(zip(have, want, strict=False)) if a != b), min(len(have), len(want)))
    return " ".join([*want[: right + 1], *have[right + 1 : len(want)]])


def _shown(name: str, text: str) -> Any:
    """The value in 'name = value', the value as JSON; None where there is none."""
    found = re.search(rf"(?<!\w){re.escape(name)} = (.*)", text)
    return _read(found[1]) if found else None


def _read(text: str) -> Any:
    """The JSON value that a text begins with, else the text."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return text


def _words(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content)
