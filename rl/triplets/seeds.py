"""Triplets that people wrote: the seeds of the buffers, and those that are held out to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from engine.config import Config
from engine.errors import DataError
from rl.triplets.checking import Limits, checked
from rl.triplets.forms import proposal_of
from rl.triplets.record import Proposal, Task, Triplet

BUNDLED = Path(__file__).with_name("data")


class Seed(Config):
    """A program with inputs: a triplet of the first for deduction and abduction; of all, if there are several, for
    induction, with the message."""

    program: str
    inputs: tuple[str, ...] = Field(min_length=1)
    message: str = ""

    def fits(self, task: Task) -> bool:
        """Whether it gives a triplet of that task."""
        return task != "induction" or len(self.inputs) > 1

    def proposal(self, task: Task) -> Proposal | None:
        """As a model might have proposed it; None where the inputs are no different literals."""
        given = self.inputs if task == "induction" else self.inputs[:1]
        return proposal_of(task, self.program, given, self.message, len(given))


IDENTITY = Seed(
    program="def f(a):\n    return a",
    inputs=("'Hello world'", "1", "{'a': 1, 'b': 2}", "(1.1, 1.2, 1.3)", "[[1, 0], [0, 1]]", "True"),
    message="The function returns what it is given.",
)
"""The one triplet that the paper starts from."""


def read_seeds(name: str, folders: Sequence[Path]) -> list[Seed]:
    """The rows of a bundled file, or of a file of JSON lines in one of the folders. Raises DataError."""
    paths = [BUNDLED / f"{name}.jsonl", *(folder / name for folder in folders)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        bundled = ", ".join(sorted(p.stem for p in BUNDLED.glob("*.jsonl")))
        raise DataError(f"there is no file '{name}'", allowed=f"{bundled}, or the path of a file of JSON lines")
    seeds = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            seeds.append(Seed.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}",
                place=f"{path}:{number}",
                allowed='{"program": "def f(a): ...", "inputs": ["1", ...], "message": "..."}',
            ) from None
    return seeds


def triplets_of(seeds: Sequence[Seed], tasks: Sequence[Task], limits: Limits) -> dict[Task, list[Triplet]]:
    """Task -> its triplets, the outputs from the sandbox. Raises DataError for a seed that is no valid triplet."""
    jobs = [(task, seed) for task in tasks for seed in seeds if seed.fits(task)]
    proposals = [seed.proposal(task) for task, seed in jobs]
    results = iter(checked([proposal for proposal in proposals if proposal is not None], limits))
    found: dict[Task, list[Triplet]] = {task: [] for task in tasks}
    for (task, seed), proposal in zip(jobs, proposals, strict=True):
        result = next(results) if proposal is not None else "input"
        if isinstance(result, str):
            raise DataError(
                f"no valid triplet for {task}, because of '{result}': {seed.program!r:.200} with {seed.inputs}",
                allowed="a Python function f that gives the same each time, and different arguments in literals",
            )
        found[task].append(result)
    return found
