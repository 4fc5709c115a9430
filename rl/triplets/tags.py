"""The paper's form: <think>...</think> <answer>...</answer>, with the parts of the answer in fenced blocks.

The questions are in texts/ROLE_TASK.md; a $name stands for what is filled in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from rl.triplets.forms import Form, proposal_of
from rl.triplets.record import Proposal, Task, Triplet

_ANSWER = re.compile(r"\s*<think>.*?</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_BLOCK = "```{kind}\n{text}\n```"
_SOLUTION = {"deduction": "output", "abduction": "input", "induction": "python"}
"""Task -> the block that holds its solution."""


class Tags(Form):
    """Questions in words, for models that follow an instruction or are to learn it."""

    def propose(self, task: Task, references: Sequence[Triplet], program: str, inputs: int) -> str:
        """Asks for a triplet unlike the references; for induction for that many inputs of that program."""
        shown = "\n\n".join(_shown(reference) for reference in references)
        return _filled("propose", task, references=shown, program=program, inputs=str(inputs))

    def solve(self, triplet: Triplet) -> str:
        """Asks for the part that is hidden."""
        pairs = list(zip(triplet.inputs, triplet.outputs, strict=True))
        visible = "\n".join(f"f({given}) == {output}" for given, output in pairs[: triplet.visible])
        return _filled(
            "solve",
            triplet.task,
            program=triplet.program,
            input=triplet.inputs[0],
            output=triplet.outputs[0],
            message=triplet.message,
            pairs=visible,
        )

    def answer(self, role: str, task: Task, completion: str) -> str | None:
        """What is between the answer's tags, of a solution its last block; None without tags or block."""
        found = _ANSWER.fullmatch(completion)
        if found is None:
            return None
        if role == "propose":
            return found[1] if _blocks(found[1], "input") else None
        return next(iter(reversed(_blocks(found[1], _SOLUTION[task]))), None)

    def proposal(self, task: Task, answer: str, program: str, inputs: int) -> Proposal | None:
        """The blocks `python` and `input`, or for induction the blocks `input` and `message`."""
        if task != "induction":
            programs = _blocks(answer, "python")
            return proposal_of(task, programs[-1], _blocks(answer, "input")[-1:], "", inputs) if programs else None
        message = next(iter(reversed(_blocks(answer, "message"))), "")
        return proposal_of(task, program, _blocks(answer, "input"), message, inputs)


def _blocks(text: str, kind: str) -> list[str]:
    """The contents of the fenced blocks of that kind."""
    return [found.strip() for found in re.findall(rf"```{kind}[^\S\n]*\n(.*?)```", text, re.DOTALL)]


def _shown(triplet: Triplet) -> str:
    """A triplet in blocks; of several pairs the inputs only."""
    parts = [("python", triplet.program), *(("input", given) for given in triplet.inputs)]
    parts += [("message", triplet.message)] if triplet.task == "induction" else [("output", triplet.outputs[0])]
    return "\n".join(_BLOCK.format(kind=kind, text=text) for kind, text in parts if text)


def _filled(role: str, task: Task, **values: str) -> str:
    text = Path(__file__).with_name("texts").joinpath(f"{role}_{task}.md").read_text(encoding="utf-8")
    return Template(text).substitute(values)
