"""What a model knows of each set of an unlearning source, by TOFU's measures. See rl.ops.tofu for their formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from rl.ops import tofu
from rl.trainers.answers import Encoder, Forward
from rl.trainers.evaluation import Sampler
from rl.trainers.model import as_evaluated
from rl.types import Prompt

Row = dict[str, float]
ALL = "all"
"""The name of the row of measures over all sets."""


@dataclass(frozen=True)
class Known:
    """One row: mean log-probs a token of its answer, of the answer in other words, and of the wrong answers."""

    answer: float
    paraphrased: float
    wrong: tuple[float, ...]
    rouge: float
    strength: float

    @property
    def ratio(self) -> float | None:
        """The truth ratio; None where no wrong answers are given."""
        return tofu.truth_ratio(self.paraphrased, self.wrong) if self.wrong else None


@dataclass
class Examiner:
    """Measures a model; of several processes each its share of the rows."""

    forward: Forward
    encoder: Encoder
    sampler: Sampler
    accelerator: Any

    def knowledge(self, sets: Mapping[str, Sequence[Prompt]], retained: Sequence[float]) -> dict[str, Row]:
        """set -> measures, and "all" -> model utility and, where `retained` are the truth ratios of a model that never
        saw the set to forget, forget quality.

        `probability`, `rouge`, `truth_ratio` (the score) and `extraction_strength` are means over a set's rows. The
        utility is over the first three of all sets but "forget", as far as their rows have wrong answers to compare.
        """
        found = {name: self.known(rows) for name, rows in sets.items()}
        result = {name: _measures(name, rows) for name, rows in found.items()}
        kept = [
            row[name]
            for part, row in result.items()
            if part != "forget"
            for name in ("probability", "rouge", "truth_ratio")
            if name in row
        ]
        over_all = {"model_utility": tofu.model_utility(kept)} if kept else {}
        ratios = [row.ratio for row in found["forget"] if row.ratio is not None]
        if retained and ratios:
            over_all["forget_quality"] = tofu.forget_quality(ratios, retained)
        return result | ({ALL: over_all} if over_all else {})

    def known(self, rows: Sequence[Prompt]) -> list[Known]:
        """Each row's measures."""
        own = list(rows)[self.accelerator.process_index :: self.accelerator.num_processes]
        with as_evaluated(self.forward.model):
            found = self._known(own) if own else []
        if self.accelerator.num_processes == 1:
            return found
        gathered: list[Known] = gather_object(found)
        return gathered

    def ratios(self, rows: Sequence[Prompt]) -> list[float]:
        """The truth ratios of the rows that have wrong answers; all of them on each process."""
        with as_evaluated(self.forward.model):
            means = self._means([row for row in rows if row.columns.get("perturbed_answer")])
        return [tofu.truth_ratio(mean[1], mean[2:]) for mean in means]

    def _known(self, rows: Sequence[Prompt]) -> list[Known]:
        means = self._means(rows)
        texts = [group.rollouts[0].text for group in self.sampler.greedy(rows)]
        matches = self.forward.matches(self.encoder.answers(rows))
        return [
            Known(
                answer=mean[0],
                paraphrased=mean[1],
                wrong=tuple(mean[2:]),
                rouge=tofu.rouge_l_recall(text, row.columns["answer"]),
                strength=tofu.extraction_strength(match),
            )
            for row, mean, text, match in zip(rows, means, texts, matches, strict=True)
        ]

    def _means(self, rows: Sequence[Prompt]) -> list[list[float]]:
        """Mean log-probs a token of each row's answer, of its paraphrase (itself without one), of its wrong answers."""
        texts = [_texts(row.columns) for row in rows]
        pairs = [self.encoder.pair(row, text) for row, of_row in zip(rows, texts, strict=True) for text in of_row]
        means = iter(self.forward.means(pairs))
        return [[next(means) for _ in of_row] for of_row in texts]


def _texts(columns: Mapping[str, Any]) -> list[str]:
    answer = columns["answer"]
    return [answer, columns.get("paraphrased_answer", answer), *columns.get("perturbed_answer", [])]


def _measures(name: str, rows: Sequence[Known]) -> Row:
    """The means of a set. General knowledge is measured by the probability among the wrong answers, as TOFU does."""
    is_general = name not in ("forget", "retain")
    row = {
        "probability": _mean([
            tofu.choice_probability(r.answer, r.wrong) if is_general and r.wrong else math.exp(r.answer) for r in rows
        ]),
        "rouge": _mean([r.rouge for r in rows]),
        "extraction_strength": _mean([r.strength for r in rows]),
        "n": len(rows),
    }  # fmt: skip
    scores = [tofu.truth_score(r.ratio, is_forgotten=name == "forget") for r in rows if r.ratio is not None]
    return row | ({"truth_ratio": _mean(scores)} if scores else {})


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
