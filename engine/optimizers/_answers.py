"""What a model answered, as candidates: unusable answers become candidates with a fault."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.errors import EngineError, ParamError
from engine.llm.base import LLM, Message
from engine.llm.schema import Schema
from engine.llm.structured import MalformedAnswer
from engine.optimizers.base import Candidate, State
from engine.params import Param

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_FENCED = re.compile(r"```\w*(?:\s((?:(?!```).)*)```)?", re.DOTALL)
_THINKING = re.compile(r"(</?)(think|thinking|reasoning)>")
QUOTES = {'"': '"', "'": "'", "“": "”", "`": "`"}


def model_of(state: State) -> LLM:
    """The state's model. Raises EngineError where the loop gave none."""
    if state.llm is None:
        raise EngineError("this optimizer proposes with a language model, and was given none")
    return state.llm


def suggestions(state: State, messages: Sequence[Message], n: int, **sampling: Any) -> list[Candidate]:
    """n candidates from answers {"reasoning": text, "suggestion": {name: value}}."""
    try:
        answer = model_of(state).complete(messages, schema=suggestion_schema(state.params), n=n, **sampling)
    except MalformedAnswer as error:
        return [Candidate({}, fault=error.message)] * max(1, len(error.texts))
    usable = [Candidate(parsed["suggestion"], parsed["reasoning"]) for parsed in answer.parsed]
    return usable + [Candidate({}, fault=fault) for fault in answer.rejected]


def suggestion_schema(params: Sequence[Param]) -> Schema:
    """The JSON schema of an answer, built from the parameters' types."""
    return {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "suggestion": {
                "type": "object",
                "properties": {param.name: param.schema() for param in params},
                "additionalProperties": False,
            },
        },
        "required": ["reasoning", "suggestion"],
        "additionalProperties": False,
    }


def texts(state: State, messages: Sequence[Message], n: int, **sampling: Any) -> list[str]:
    """n plain answers."""
    return list(model_of(state).complete(messages, n=n, **sampling).texts)


def read_choice(param: Param, text: str, finish_reason: str) -> Any:
    """The value in one choice of an answer. Raises ParamError, also where the model refuses."""
    if finish_reason == "refusal":
        raise ParamError(f"the model refuses: {text:.200}")
    return read_value(param, text)


def after_thinking(text: str) -> str:
    """The text after the block of thoughts that it begins with, or whose beginning a chat template holds.

    Such marks elsewhere belong to the text; a reader of JSON takes the last of them (`engine.llm.parsing`).
    Raises ParamError where the block does not end.
    """
    first = _THINKING.search(text)
    if first is None or (first[1] == "<" and text[: first.start()].strip()):
        return text
    end = f"</{first[2]}>"
    if end not in text:
        raise ParamError(f"the answer ends inside <{first[2]}>: it was cut off while thinking")
    return text.partition(end)[2]


def read_value(param: Param, text: str) -> Any:
    """The value that a plain answer gives for a parameter. Raises ParamError.

    What a model thought before it answered, in <think> and the like, is no part of the value; a text
    that ends inside such a block has none.

    Of a text, outer quotes are taken off; of a number, the first number in the answer is taken; of code, what
    stands in the first fence that holds a function, else the whole answer.
    """
    text = after_thinking(text)
    if param.kind == "code":
        return param.check(text)
    text = text.strip()
    if fenced := _FENCED.fullmatch(text):
        text = (fenced[1] or "").strip()
    if len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    if not text:
        raise ParamError("the answer is empty")
    if param.kind in ("number", "integer") and (number := NUMBER.search(text)):
        text = number[0]
    return param.check(text)
