"""Which answers are right. The outputs that are asked for never enter the sandbox, so that no program can see them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.sandbox import same
from rl.triplets.checking import THREADS, Limits, outcome_of, refused
from rl.triplets.literals import arguments, literal, written
from rl.triplets.record import Triplet


def are_right(triplet: Triplet, answers: Sequence[str | None], limits: Limits) -> list[bool]:
    """Whether each answer gives the hidden part of the triplet; equal answers are judged once.

    Deduction: a literal that equals the output. Abduction: arguments of which the program gives the output. Induction:
    a program that gives the hidden outputs, of the hidden inputs. None, and what cannot be read or run, is wrong.
    """
    distinct = list(dict.fromkeys(answers))
    if triplet.task == "deduction":
        verdicts = [_is_value(answer, triplet.outputs[0]) for answer in distinct]
    else:
        runs = [_runs(triplet, answer, limits) for answer in distinct]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="triplets") as pool:
            verdicts = list(pool.map(lambda run: bool(run) and all(_gives(*part, limits) for part in run), runs))
    right = dict(zip(distinct, verdicts, strict=True))
    return [right[answer] for answer in answers]


def _is_value(answer: str | None, output: str) -> bool:
    try:
        return answer is not None and same(literal(answer), literal(output))
    except ValueError:
        return False


def _runs(triplet: Triplet, answer: str | None, limits: Limits) -> list[tuple[str, str, str]]:
    """(program, arguments, output) that must hold for the answer to be right; none if it cannot be."""
    if answer is None or len(answer) > limits.max_chars:
        return []
    if triplet.task == "induction":
        hidden = list(zip(triplet.inputs, triplet.outputs, strict=True))[triplet.visible :]
        return [(answer, given, output) for given, output in hidden] if refused(answer, limits) is None else []
    try:
        given = ", ".join(map(written, arguments(answer)))
    except ValueError:
        return []
    return [(triplet.program, given, triplet.outputs[0])]


def _gives(program: str, given: str, output: str, limits: Limits) -> bool:
    """Whether f of the arguments is that output."""
    outcome = outcome_of(program, given, limits)
    return outcome.ok and same(outcome.value, literal(output))
