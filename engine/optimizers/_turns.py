"""Values as turns of a conversation: the user asks, the assistant says a value.

A chat model goes on in the same manner, with a value and nothing else, which also the smallest ones do
(measured with a model of 135 M parameters: with the same values listed in one message two of twelve
answers were values, as turns all of them; and a request that repeats what is wanted in every turn gave better
ones than a system message that says it once).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.errors import BudgetSpent, ParamError
from engine.llm.base import Completion, Message, Request
from engine.optimizers._answers import model_of, read_choice
from engine.optimizers._words import constraint_of
from engine.optimizers.base import Candidate, Options, State
from engine.params import Param

CODE_TOKENS = 512

Turn = tuple[str, Any]
"""What the user says, and the value that answers it."""

Conversation = tuple[list[Message], list[Turn]]
"""The messages that ask for one more value, and the turns among them."""


class SamplingOptions(Options):
    """How values are sampled; the defaults are GLOV's (arXiv 2410.06154)."""

    objective: str = Field(default="", description="what to achieve, told first; by default the workflow's docstring")
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=75, ge=1, description="of one value")

    def sampling(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}


def wanted(param: Param) -> str:
    """What the model is asked to write."""
    if param.kind == "code":
        return f"the Python function `{param.signature}`"
    return param.description or f'a value of "{param.name}"'


def conversation(param: Param, objective: str, told: str, turns: Sequence[Turn], ask: str) -> Conversation:
    """One more value of the parameter is asked for, after the objective, its limits and the turns."""
    limits = constraint_of(param)
    lines = [objective, told, f"A value is {limits}." if limits else ""]
    messages: list[Message] = []
    if intro := "\n".join(line for line in lines if line):
        messages.append({"role": "system", "content": intro})
    for said, value in turns:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": spoken(param, value)}]
    return [*messages, {"role": "user", "content": ask}], list(turns)


def fresh(param: Param, objective: str, start: Any) -> Conversation:
    """One more value is asked for; no score is told.

    The starting value is shown only where no description says what to write: a small model varies what it is
    shown, and from "negative" it gets to "negative 3" and not to a sentence.
    """
    ask = f"Write {wanted(param)}."
    if param.description and param.kind != "code":
        return conversation(param, objective, "", [], ask)
    return conversation(param, objective, "", [(ask, start)], "Write another one.")


def rows(
    state: State,
    conversation_of: Callable[[Param], Conversation],
    n: int,
    reason: str,
    sampling: Mapping[str, Any],
    own: Callable[[Param], Mapping[str, Any]] = lambda param: {},
) -> list[Candidate]:
    """n candidates with a new value of every parameter, and one with a fault for each answer that is no value.

    own: what a parameter's call gets beside `sampling`.

    If the budget ends on the way, the parameters asked for so far are the candidates'; raises BudgetSpent
    if that is none.
    """
    columns: dict[str, list[Any]] = {}
    faults: list[Candidate] = []
    requests = []
    for param in state.params:
        messages, turns = conversation_of(param)
        requests.append(Request(messages, n, value_sampling(param, turns, {**sampling, **own(param)})))
    answers = model_of(state).complete_all(requests)
    for param in state.params:
        try:
            columns[param.name], unusable = read_values(param, next(answers))
        except BudgetSpent:
            if not columns:
                raise
            break
        faults += unusable
    usable = min(len(values) for values in columns.values())
    found = [Candidate({name: values[i] for name, values in columns.items()}, reason) for i in range(usable)]
    return found + faults[: n - usable]


def value_sampling(param: Param, turns: Sequence[Turn], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """How answers are sampled.

    They end at a line break where no value so far has one; code may take as many tokens as a function needs.
    """
    if param.kind == "code":
        return {**sampling, "max_tokens": max(CODE_TOKENS, sampling.get("max_tokens", 0))}
    if any("\n" in spoken(param, value) for _, value in turns):
        return dict(sampling)
    return {**sampling, "stop": ["\n"]}


def read_values(param: Param, answer: Completion) -> tuple[list[Any], list[Candidate]]:
    """The values in the choices of an answer, and a candidate with a fault for each choice that is none."""
    values, faults = [], []
    for text, finish in zip(answer.texts, answer.finish_reasons, strict=True):
        try:
            values.append(read_choice(param, text, finish))
        except ParamError as error:
            faults.append(Candidate({}, fault=f"{param.name}: {error.message}"))
    return values, faults


def spoken(param: Param, value: Any) -> str:
    """A value as an answer that `read_value` reads back."""
    if param.kind == "code":
        return f"```python\n{str(value).rstrip()}\n```"
    return str(value) if param.kind in ("text", "choice") else json.dumps(value, ensure_ascii=False)
