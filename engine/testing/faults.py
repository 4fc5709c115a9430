"""What can be wrong with an answer of a language model: a table of small functions, each with a name.

Faults of the answer are the model's: the same request with the same seed has the same fault again. Faults of the
connection are the endpoint's: they leave no answer, and are drawn anew for every try.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.testing.draft import Draft

Change = Callable[[Draft, random.Random], None]

CANARY = "unsafe_code_was_run"
"""The file that unsafe code makes in its working folder: where it is, code of a model ran unconfined."""

LONG = 1_200_000
"""Characters that an endless answer has too many."""

UNSAFE = (
    f"import os\n    os.system('touch {CANARY}')\n    return 1",
    f"open('{CANARY}', 'w').close()\n    return 1",
    f"__import__('subprocess').run(['touch', '{CANARY}'])\n    return 1",
    "while True:\n        pass",
    "return 'x' * 10**12",
    "return [list(range(10**9))]",
    "raise SystemExit(0)",
)
"""Bodies of functions."""

_HEADER = re.compile(r"def \w+\([^()\n]*\)[^:\n`]*")


@dataclass(frozen=True)
class Fault:
    """One way to be wrong. `is_connection`: it is the endpoint's, so that another try may go well."""

    name: str
    change: Change
    is_connection: bool

    @property
    def description(self) -> str:
        return (self.change.__doc__ or "").strip()


FAULTS: dict[str, Fault] = {}
"""All faults by name."""


def _answer(change: Change) -> Change:
    FAULTS[change.__name__] = Fault(change.__name__, change, is_connection=False)
    return change


def _connection(change: Change) -> Change:
    FAULTS[change.__name__] = Fault(change.__name__, change, is_connection=True)
    return change


@_answer
def malformed_json(draft: Draft, rng: random.Random) -> None:
    """JSON with a colon missing."""
    draft.change(lambda text: text.replace(":", " ", 1) if ":" in text else '{"value" ' + text)


@_answer
def truncated_json(draft: Draft, rng: random.Random) -> None:
    """The first part of the answer, though the model says that it has ended."""
    draft.change(lambda text: text[: rng.randint(1, max(1, len(text) - 1))])


@_answer
def open_thinking(draft: Draft, rng: random.Random) -> None:
    """A <think> block that never ends, with the answer in it."""
    draft.change(lambda text: f"<think>Perhaps 0.5 would do. Or this: {text}? Let me see")


@_answer
def closed_thinking(draft: Draft, rng: random.Random) -> None:
    """A finished <think> block before the answer. Harmless: the answer is there."""
    draft.change(lambda text: f'<think>Maybe {{"x": 3}}, or 17.</think>\n{text}')


@_answer
def prose_around(draft: Draft, rng: random.Random) -> None:
    """Sentences before and after the answer."""
    draft.change(lambda text: f"Sure! Here is what you asked for:\n\n{text}\n\nLet me know if it helps.")


@_answer
def code_fence(draft: Draft, rng: random.Random) -> None:
    """The answer in a fence of Markdown."""
    draft.change(lambda text: f"```json\n{text}\n```")


@_answer
def wrong_types(draft: Draft, rng: random.Random) -> None:
    """Every number a text, every text a number."""
    draft.change(lambda text: _edited(text, lambda leaf: 17 if isinstance(leaf, str) else f"about {leaf}"))


@_answer
def out_of_range(draft: Draft, rng: random.Random) -> None:
    """Numbers beyond every bound, texts that are among no choices."""
    huge = rng.choice((-1e300, 1e300, -(10**30), 10**30))
    draft.change(lambda text: _edited(text, lambda leaf: "none of these" if isinstance(leaf, str) else huge))


@_answer
def unknown_keys(draft: Draft, rng: random.Random) -> None:
    """Keys that were not asked for, in every object."""
    draft.change(lambda text: _reshaped(text, lambda item: {**item, "surprise": 1, "__class__": "x"}))


@_answer
def missing_keys(draft: Draft, rng: random.Random) -> None:
    """The first key missing in every object."""
    draft.change(lambda text: _reshaped(text, lambda item: dict(list(item.items())[1:])))


@_answer
def empty_answer(draft: Draft, rng: random.Random) -> None:
    """No text at all."""
    draft.change(lambda text: "")


@_answer
def null_content(draft: Draft, rng: random.Random) -> None:
    """`content` is null."""
    draft.change(lambda text: None)


@_answer
def duplicate(draft: Draft, rng: random.Random) -> None:
    """The same answer as to other requests with this fault."""
    draft.change(lambda text: draft.again())


@_answer
def unsafe_code(draft: Draft, rng: random.Random) -> None:
    """Code that harms whoever runs it: in the place of every text, in a fence where the answer is no JSON."""
    asked = _HEADER.search(json.dumps(list(draft.request["messages"]), ensure_ascii=False).replace('\\"', '"'))
    source = f"{asked[0] if asked else 'def run(*arguments)'}:\n    {rng.choice(UNSAFE)}\n"
    draft.change(lambda text: _edited(text, lambda leaf: source, f"```python\n{source}```"))


@_answer
def lone_surrogates(draft: Draft, rng: random.Random) -> None:
    """Halves of surrogate pairs, which are no text, at the end of every text."""
    draft.change(lambda text: _edited(text, lambda leaf: f"{leaf}\udc80\ud800", f"{text}\ud800"))


@_answer
def endless_answer(draft: Draft, rng: random.Random) -> None:
    """More than a million characters in the first choice, whatever max_tokens says."""
    first = iter([" and so on" * (LONG // 10)])
    draft.change(lambda text: text + next(first, ""))


@_answer
def refusal(draft: Draft, rng: random.Random) -> None:
    """A refusal, in the place that the API has for it or as the answer's text."""
    said = "I'm sorry, but I can't help with that."
    if rng.random() < 0.5:
        draft.refusals = [said] * len(draft.texts)
        draft.change(lambda text: None)
    else:
        draft.change(lambda text: said)


@_answer
def length_cut(draft: Draft, rng: random.Random) -> None:
    """Half of the answer, cut off by the limit of tokens, as the finish reason says."""
    draft.change(lambda text: text[: len(text) // 2])
    draft.finishes = ["length"] * len(draft.texts)


@_answer
def wrong_n(draft: Draft, rng: random.Random) -> None:
    """One choice fewer than asked for; where one was asked for, two more."""
    if len(draft.texts) > 1:
        del draft.texts[-1], draft.finishes[-1]
    else:
        draft.texts, draft.finishes = draft.texts * 3, draft.finishes * 3
    draft.change(lambda text: text)


@_answer
def missing_usage(draft: Draft, rng: random.Random) -> None:
    """Nothing is said of the tokens used. Harmless to the answer."""
    draft.usage = None


@_answer
def slow_body(draft: Draft, rng: random.Random) -> None:
    """The body comes in drips. Harmless to who waits."""
    draft.delivery = "drip"


@_connection
def rate_limit(draft: Draft, rng: random.Random) -> None:
    """Status 429 with Retry-After."""
    _refuse(draft, 429, "Rate limit reached, try again later")


@_connection
def server_error(draft: Draft, rng: random.Random) -> None:
    """Status 500."""
    _refuse(draft, 500, "The server had an error while processing your request")


@_connection
def unavailable(draft: Draft, rng: random.Random) -> None:
    """Status 503 with Retry-After."""
    _refuse(draft, 503, "The engine is currently overloaded")


@_connection
def reset(draft: Draft, rng: random.Random) -> None:
    """The connection is reset before a byte of the answer."""
    draft.delivery = "reset"


@_connection
def cut_body(draft: Draft, rng: random.Random) -> None:
    """The connection is closed in the middle of the body."""
    draft.delivery = "cut"


@_connection
def html_page(draft: Draft, rng: random.Random) -> None:
    """A page of a proxy with status 200."""
    draft.content_type, draft.body = "text/html", b"<html><body><h1>Please log in</h1></body></html>"


@_connection
def bad_utf8(draft: Draft, rng: random.Random) -> None:
    """A body that is not UTF-8."""
    payload = draft.payload()
    draft.body = payload[:-2] + b"\xff\xfe" + payload[-2:]


@_connection
def no_choices(draft: Draft, rng: random.Random) -> None:
    """A completion without choices."""
    draft.texts, draft.finishes = [], []


@_connection
def hang(draft: Draft, rng: random.Random) -> None:
    """No answer, until the client's patience ends."""
    draft.delivery = "hang"


def _refuse(draft: Draft, status: int, message: str) -> None:
    draft.status = status
    draft.body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None}}).encode()


def _edited(text: str, edit: Callable[[Any], Any], otherwise: str | None = None) -> str:
    """The JSON text with every number and text edited; a text that is no JSON object is `otherwise` or one leaf."""
    value = _object(text)
    if value is not None:
        return json.dumps(_leaves(value, edit))
    return str(edit(text)) if otherwise is None else otherwise


def _leaves(value: Any, edit: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _leaves(item, edit) for key, item in value.items()}
    if isinstance(value, list):
        return [_leaves(item, edit) for item in value]
    return value if value is None else edit(value)


def _reshaped(text: str, edit: Callable[[dict[str, Any]], Mapping[str, Any]]) -> str:
    """The JSON text with every object in it edited; what is no JSON object becomes one."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return edit({key: walk(item) for key, item in value.items()})
        return [walk(item) for item in value] if isinstance(value, list) else value

    value = _object(text)
    return json.dumps(walk({"value": text} if value is None else value))


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
