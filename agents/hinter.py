"""Help with a question step by step: first what to know, then a plan, then the solution's beginning.

hint("What is 17 + 25?", answer="42", tier="knowledge") -> "Adding tens and ones apart is easier."
"""

from __future__ import annotations

import functools
import re
from typing import Literal

from engine import trace
from engine.errors import AnswerError, InputError
from engine.llm import LLM, resolve

Tier = Literal["knowledge", "planning", "solution"]

knowledge_request = trace.param(
    "Name the one fact or rule that helps most with the question. Do not use it and do not give the answer.",
    name="knowledge_request",
    description="asks for a hint of the first tier",
)
planning_request = trace.param(
    "Say in one or two steps how to go about the question. Do not carry them out and do not give the answer.",
    name="planning_request",
    description="asks for a hint of the second tier",
)
solution_request = trace.param(
    "Work the question out step by step, up to and with the answer.",
    name="solution_request",
    description="asks for a hint of the third tier",
)
REQUESTS = {"knowledge": knowledge_request, "planning": planning_request, "solution": solution_request}
default_llm = functools.cache(resolve)


@trace.node
def write(request: str, question: str, answer: str, llm: LLM) -> str:
    """The hint that the model writes; it sees the right answer, if there is one."""
    known = f"{question}\n\n(The right answer, for you alone: {answer})" if answer else question
    return llm.complete([{"role": "system", "content": request}, {"role": "user", "content": known}]).text.strip()


@trace.node
def without_answer(text: str, answer: str) -> str:
    """The hint, if it does not hold the answer as a whole word. Raises AnswerError: then it would be none."""
    if answer and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE):
        raise AnswerError(f"the hint gives the answer away: {text!r:.200}", next_step="ask again")
    return text


def hint(question: str, answer: str = "", tier: Tier = "knowledge", llm: LLM | None = None) -> str:
    """A hint of a tier. Below "solution", one that holds the answer word for word is refused (AnswerError)."""
    if tier not in REQUESTS:
        raise InputError(f"no tier '{tier}' of hints", allowed=", ".join(REQUESTS))
    text = write(REQUESTS[tier], question, answer, llm or default_llm())
    return text if tier == "solution" else without_answer(text, answer)
