"""The program behind `Child`: `python -P _program.py NAME` answers JSON lines until its input ends.

It imports nothing of ours, and is the only place where text of a model meets a library that
evaluates it.
"""

from __future__ import annotations

import ast
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

_MEMORY_BYTES = 4 * 2**30
_FORMULA = re.compile(r"[\w\s+\-*/^%().,=!<>|&~]*", re.ASCII)
_WORD = re.compile(
    r"[A-Za-z]|a?(sin|cos|tan|cot|sec|csc)h?|exp|log|ln|sqrt|cbrt|[Aa]bs|sign|floor|ceiling|factorial|binomial"
    r"|gamma|erf|root|pi|oo|Rational|Integer|Float|Symbol"
)
"""A variable of one letter, or a function or number that sympy knows."""

Judge = Callable[[dict[str, Any]], dict[str, Any]]


def math_judge() -> Judge:
    """{"gold", "text"} -> {"score": 1, 0, or None where gold is not mathematics; "answer": as read}."""
    library = importlib.import_module("math_verify")

    def parse(text: str) -> list[Any]:
        return list(library.parse(text, parsing_timeout=None))

    def parse_gold(text: str) -> list[Any]:
        # An answer column often holds LaTeX without its dollars; words in dollars would be variables.
        return parse(text) or (parse(f"${text}$") if re.search(r"[\\^=]", text) else [])

    def judge(question: dict[str, Any]) -> dict[str, Any]:
        gold = parse_gold(question["gold"])
        if not gold:
            return {"score": None, "answer": None}
        given = parse(question["text"])
        score = float(bool(given) and library.verify(gold, given, timeout_seconds=None))
        return {"score": score, "answer": str(given[0]) if given else None}

    return judge


def gym_judge() -> Judge:
    """Makes and scores the entries of reasoning-gym tasks; a task is {"name", "options"}.

    {"task", "indices"} -> {"entries": [{"question", "answer"}, ...]}, or {"unknown": the names that
    there are}, or {"invalid": why the options are}. {"task", "index", "answer"} -> {"score"}.
    """
    gym = importlib.import_module("reasoning_gym")
    _disarm()
    datasets: dict[str, Any] = {}

    def dataset(task: dict[str, Any]) -> Any:
        key = json.dumps(task, sort_keys=True)
        if key not in datasets:
            datasets[key] = gym.create_dataset(task["name"], **task["options"])
        return datasets[key]

    def entries(question: dict[str, Any]) -> dict[str, Any]:
        if question["task"]["name"] not in gym.factory.DATASETS:
            return {"unknown": sorted(gym.factory.DATASETS)}
        try:
            made = [dataset(question["task"])[i] for i in question["indices"]]
        except (TypeError, ValueError, AssertionError) as error:
            return {"invalid": str(error) or "refused by the task"}
        return {"entries": [{"question": e["question"], "answer": e["answer"]} for e in made]}

    def score(question: dict[str, Any]) -> dict[str, Any]:
        tasks = dataset(question["task"])
        try:
            return {"score": float(tasks.score_answer(question["answer"], tasks[question["index"]]))}
        except Exception:
            # Scorers raise on answers of a form that they did not expect.
            return {"score": 0.0}

    return lambda question: entries(question) if "indices" in question else score(question)


def _disarm() -> None:
    """Let the scorers' eval read literals only, and their formula parsers formulas only."""
    sympy: Any = importlib.import_module("sympy")
    parse = sympy.parse_expr

    def parse_formula(text: str, *args: Any, **options: Any) -> Any:
        if not is_formula(text):
            raise ValueError("not a formula")
        return parse(text, *args, **options)

    sympy.parse_expr = parse_formula
    for name, module in list(sys.modules.items()):
        if not name.startswith("reasoning_gym."):
            continue
        if getattr(module, "parse_expr", None) is parse:
            module.parse_expr = parse_formula  # type: ignore[attr-defined]
        if name.rsplit(".", 1)[-1] in ("string_insertion", "spiral_matrix", "binary_matrix", "n_queens"):
            module.eval = ast.literal_eval  # type: ignore[attr-defined]


def is_formula(text: str) -> bool:
    """Whether the text has numbers, operators, one-letter variables and known functions only."""
    if not _FORMULA.fullmatch(text) or re.search(r"[A-Za-z_)]\s*\.", text) or "__" in text:
        return False
    return all(_WORD.fullmatch(word) for word in re.findall(r"[A-Za-z_]+", text))


def serve(judge: Judge) -> None:
    """Answer the lines of standard input; a question that the judge fails on is answered "refused"."""
    for line in sys.stdin:
        try:
            reply = judge(json.loads(line))
        except Exception as error:
            reply = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply, default=str), flush=True)


def bound_memory() -> None:
    """Keep a runaway formula from taking the machine's memory, where the system can."""
    try:
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass


def main() -> None:
    """Say hello, or what is missing, and serve."""
    logging.disable()
    bound_memory()
    makers = {"math_verify": math_judge, "reasoning_gym": gym_judge}
    try:
        judge = makers[sys.argv[1]]()
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps({"ready": True}), flush=True)
    serve(judge)


if __name__ == "__main__":
    main()
