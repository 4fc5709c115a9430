"""Say what is wrong with an answer and how good it is: feedback that `optimize()` takes as it is.

critique("What is 2 + 3?", "6") -> Feedback(score=0.1, text="2 + 3 is 5, not 6.")
"""

from __future__ import annotations

import functools

from engine import Feedback, trace
from engine.llm import LLM, resolve

critic_instruction = trace.param(
    "Check the answer to the question. Say in one or two sentences what is wrong with it and how it "
    "would become right; if nothing is wrong, say so. Then rate it from 0 (wrong) to 10 (right and complete).",
    name="critic_instruction",
    description="what the critic is told before a question and its answer",
)
default_llm = functools.cache(resolve)
SCHEMA = {
    "type": "object",
    "properties": {
        "criticism": {"type": "string", "minLength": 1},
        "rating": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["criticism", "rating"],
    "additionalProperties": False,
}


@trace.node
def check(instruction: str, question: str, answer: str, llm: LLM) -> Feedback:
    """The criticism first and the rating after it, so that the number follows from the words."""
    request = f"Question:\n{question}\n\nAnswer:\n{answer}"
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": request}]
    said = llm.complete(messages, schema=SCHEMA, temperature=0).parsed[0]
    return Feedback(score=said["rating"] / 10, text=said["criticism"])


def critique(question: str, answer: str, llm: LLM | None = None) -> Feedback:
    """What is wrong with an answer (`text`) and how good it is, from 0 to 1 (`score`)."""
    return check(critic_instruction, str(question), str(answer), llm or default_llm())
