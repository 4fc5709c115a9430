"""Values as turns of a conversation: the user asks, the assistant says a value.

A chat model goes on in the same manner, with a value and nothing else, which also the smallest ones do
(measured with a model of 135 M parameters: with the same values listed in one message two of twelve
answers were values, as turns all of them).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.errors import ParamError
from engine.llm.base import Message
from engine.optimizers._answers import read_value, texts
from engine.optimizers._words import constraint_of
from engine.optimizers.base import Candidate, State
from engine.params import Param

Turn = tuple[str, Any]
"""What the user says, and the value that answers it."""


def conversation(param: Param, intro: str, turns: Sequence[Turn], ask: str) -> list[Message]:
    """The messages that ask for one more value of the parameter."""
    messages: list[Message] = [{"role": "system", "content": intro}]
    for said, value in turns:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": spoken(param, value)}]
    return [*messages, {"role": "user", "content": ask}]


def introduction(param: Param, objective: str, told: str) -> str:
    """What the model is told first."""
    limits = constraint_of(param)
    what = f'"{param.name}"' + (f" ({param.description})" if param.description else "")
    lines = [objective, f"You write {'texts' if param.kind == 'text' else 'values'} for {what}. {told}"]
    lines.append(f"A value is {limits}." if limits else "")
    return "\n".join(line for line in lines if line)


def fresh(param: Param, objective: str, start: Any) -> tuple[list[Message], list[Turn]]:
    """The conversation that asks for one more value like the starting one, and its turns."""
    turns: list[Turn] = [("Write one.", start)]
    intro = introduction(param, objective, "Each of your answers is one of them.")
    return conversation(param, intro, turns, "Write another one."), turns


def ask_values(
    state: State, param: Param, messages: Sequence[Message], turns: Sequence[Turn], n: int, **sampling: Any
) -> tuple[list[Any], list[Candidate]]:
    """n values of one parameter, and a candidate with a fault for each answer that is none.

    Answers end at a line break where no value so far has one.
    """
    if not any("\n" in spoken(param, value) for _, value in turns):
        sampling["stop"] = ["\n"]
    values, faults = [], []
    for text in texts(state, messages, n, **sampling):
        try:
            values.append(read_value(param, text))
        except ParamError as error:
            faults.append(Candidate({}, fault=f"{param.name}: {error.message}"))
    return values, faults


def spoken(param: Param, value: Any) -> str:
    """A value as an answer that `read_value` reads back."""
    return str(value) if param.kind in ("text", "choice") else json.dumps(value, ensure_ascii=False)
