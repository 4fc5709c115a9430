"""What was asked of `optimize`, checked before anything runs."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine import optimizers
from engine.acceptance import Rule, resolve_rule
from engine.budget import Budget
from engine.errors import DataError, InputError
from engine.jsonfiles import json_text
from engine.llm.base import LLM
from engine.optimizers.base import Optimizer
from engine.ranking import Ranker

Judge = Callable[[Any, Any], Any] | Ranker
"""A feedback function (example, output), or a ranker that compares outputs."""


@dataclass(frozen=True)
class Task:
    """The checked arguments. `examples`: None for a workflow without arguments; `optimizer`: None for "auto"."""

    workflow: Callable[..., Any]
    feedback: Judge
    examples: list[Any] | None
    held_out: list[Any]
    optimizer: Optimizer | None
    llm: str | LLM | None
    budget: Budget
    batch_size: int | None
    halving: int | None
    allow_copies: bool
    accept: str | Rule
    rule: Rule
    workers: int
    seed: int

    @classmethod
    def of(
        cls,
        workflow: Callable[..., Any],
        data: Sequence[Any] | None,
        *,
        feedback: Judge,
        optimizer: str | Mapping[str, Any] | Optimizer,
        llm: str | LLM | None,
        validation: Sequence[Any] | float | None,
        budget: Budget | Mapping[str, Any],
        batch_size: int | None,
        halving: int | None,
        allow_copies: bool,
        accept: str | Rule,
        workers: int,
        seed: int,
    ) -> Task:
        """The task that these arguments describe. Raises InputError and its kin, naming the argument."""
        _check_callables(workflow, feedback)
        _check_whole("workers", workers, 1)
        _check_whole("seed", seed, 0)
        _check_whole("batch_size", batch_size, 1, may_lack=True)
        _check_whole("halving", halving, 2, may_lack=True)
        if halving is not None and isinstance(feedback, Ranker):
            raise InputError(
                f"halving is {halving} where a ranker compares the outputs",
                allowed="None: all of a step's candidates are compared on the same examples",
            )
        examples, held_out = _split(data, validation, seed)
        return cls(
            workflow=workflow,
            feedback=feedback,
            examples=examples,
            held_out=held_out,
            optimizer=None if isinstance(optimizer, str) and optimizer == "auto" else optimizers.make(optimizer),
            llm=llm,
            budget=Budget.of(budget),
            batch_size=batch_size,
            halving=halving,
            allow_copies=bool(allow_copies),
            accept=accept,
            rule=resolve_rule(accept),
            workers=workers,
            seed=seed,
        )

    def config(self) -> dict[str, Any]:
        """The run folder's config.yaml: what a resumed run must agree in but for budget and workers."""
        return {
            "workflow": _name_of(self.workflow),
            "feedback": _name_of(self.feedback),
            "optimizer": {"kind": self.optimizer.name, **self.optimizer.options()} if self.optimizer else "auto",
            "llm": getattr(self.llm, "name", self.llm),
            "accept": self.accept if isinstance(self.accept, str) else _name_of(self.accept),
            "data": _described(self.examples),
            "validation": _described(self.held_out),
            "batch_size": self.batch_size,
            "halving": self.halving,
            "allow_copies": self.allow_copies,
            "seed": self.seed,
            "workers": self.workers,
            "budget": asdict(self.budget),
        }


def _check_whole(name: str, value: Any, least: int, *, may_lack: bool = False) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not is_whole and not (may_lack and value is None):
        allowed = f"a whole number, at least {least}" + (", or None" if may_lack else "")
        raise InputError(f"{name} is {value!r}", allowed=allowed)


def _check_callables(workflow: Any, feedback: Any) -> None:
    if not callable(workflow):
        raise _uncallable("workflow", workflow, "a function, or a Module with forward or __call__")
    if isinstance(feedback, type) and issubclass(feedback, Ranker):
        name = feedback.__name__
        raise InputError(f"feedback is the class {name}", allowed=f"a ranker made of it: {name}(...)")
    if not callable(feedback) and not isinstance(feedback, Ranker):
        returned = "a number, a sentence, a mapping or Feedback"
        allowed = f"a function (example, output) -> {returned}; or an engine.ranking.Ranker"
        raise _uncallable("feedback", feedback, allowed)


def _uncallable(name: str, value: Any, allowed: str) -> InputError:
    return InputError(f"{name} is {value!r:.80}, which cannot be called", allowed=allowed)


def _split(
    data: Sequence[Any] | None, validation: Sequence[Any] | float | None, seed: int
) -> tuple[list[Any] | None, list[Any]]:
    """The examples to search on, and those held out."""
    examples = None if data is None else _listed(data, "data")
    if validation is None:
        return examples, []
    if examples is None:
        raise InputError("validation is given without data", allowed="both, or neither")
    if not isinstance(validation, int | float) or isinstance(validation, bool):
        return examples, _listed(validation, "validation")
    held = round(len(examples) * validation) if 0 < validation < 1 else 0
    if not 0 < held < len(examples):
        raise InputError(
            f"validation is {validation!r} of {len(examples)} examples",
            allowed="held-out examples, or a share between 0 and 1 that leaves examples on both sides",
        )
    order = list(range(len(examples)))
    random.Random(f"{seed}/validation").shuffle(order)
    chosen = set(order[:held])
    return [e for i, e in enumerate(examples) if i not in chosen], [examples[i] for i in sorted(chosen)]


def _listed(data: Any, name: str) -> list[Any]:
    if isinstance(data, str | bytes | Mapping) or not hasattr(data, "__iter__"):
        raise DataError(f"{name} is {data!r:.80}", allowed="a list of examples")
    examples = list(data)
    if not examples:
        raise DataError(
            f"{name} has no examples", allowed="at least one; for a workflow without arguments leave it out"
        )
    return examples


def _described(examples: Sequence[Any] | None) -> dict[str, Any]:
    """How many examples there are, and a digest of them where JSON can hold them."""
    if examples is None:
        return {"examples": None}
    try:
        digest = hashlib.sha256(json_text(list(examples)).encode()).hexdigest()[:16]
    except InputError:
        digest = None
    return {"examples": len(examples), "digest": digest}


def _name_of(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return str(name)
