"""Write new questions on a topic, unlike those that are there already.

propose("sums of two numbers", known=["What is 2 + 3?"], n=2) -> ["What is 8 + 11?", "What is 40 + 2?"]
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from engine import trace
from engine.llm import LLM, resolve

proposer_instruction = trace.param(
    "Write new questions on the topic. Each must have one short answer that can be checked, must be "
    "understandable by itself, and must differ from the questions shown. Do not write the answers.",
    name="proposer_instruction",
    description="what the proposer is told before the topic and the known questions",
)
default_llm = functools.cache(resolve)


@trace.node
def ask(instruction: str, topic: str, known: Sequence[str], n: int, llm: LLM) -> list[str]:
    """The model's list of n questions."""
    shown = "\n".join(f"- {question}" for question in known) or "(none)"
    request = f"Topic: {topic}\nKnown questions:\n{shown}\nWrite {n} new ones."
    item = {"type": "string", "minLength": 1}
    schema = {
        "type": "object",
        "properties": {"questions": {"type": "array", "items": item, "minItems": n, "maxItems": n}},
        "required": ["questions"],
        "additionalProperties": False,
    }
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": request}]
    return list(llm.complete(messages, schema=schema).parsed[0]["questions"])


@trace.node
def only_new(questions: Sequence[str], known: Sequence[str]) -> list[str]:
    """The questions that are neither known nor said twice, compared without case and spaces."""
    seen = {"".join(question.lower().split()) for question in known}
    new = {"".join(question.lower().split()): question.strip() for question in reversed(questions)}
    return [question for key, question in reversed(new.items()) if key and key not in seen]


def propose(topic: str, known: Sequence[str] = (), n: int = 1, llm: LLM | None = None) -> list[str]:
    """At most n new questions on the topic; fewer where the model repeats itself."""
    return only_new(ask(proposer_instruction, topic, list(known), n, llm or default_llm()), list(known))
