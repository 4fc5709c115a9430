"""Answer a question: think first, then give the answer alone.

solve("What is 17 + 25?") -> "42"
"""

from __future__ import annotations

import functools

from engine import trace
from engine.llm import LLM, resolve

solver_instruction = trace.param(
    "Think step by step. Then write the answer alone on a last line that begins with 'Answer:'.",
    name="solver_instruction",
    description="what the solver is told before each question",
)
default_llm = functools.cache(resolve)


@trace.node
def think(instruction: str, question: str, llm: LLM) -> str:
    """The model's whole reply to the question."""
    return llm.complete([{"role": "system", "content": instruction}, {"role": "user", "content": question}]).text


@trace.node
def final_answer(reply: str) -> str:
    """What follows the last 'Answer:', else the last line that is not empty."""
    _, found, answer = reply.rpartition("Answer:")
    lines = [line.strip() for line in (answer if found else reply).splitlines() if line.strip()]
    return (lines[0] if found else lines[-1]) if lines else ""


def solve(question: str, llm: LLM | None = None) -> str:
    """The answer to a question. llm: None takes the one that the environment names, else the embedded one."""
    return final_answer(think(solver_instruction, question, llm or default_llm()))
