"""One answer to "which of these is better?": tiers, best first, and what they say of every pair."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.errors import DataError, InputError

Id = str | int


@dataclass(frozen=True)
class Ranking:
    """What somebody who was shown candidates says of them; candidates are named by id, each once.

    `tiers`: the best first, those of one tier equally good. `unranked`: below all that are ranked, and equal
    among themselves. `all_bad`: none of them would do, however they are ranked. `cannot_judge`: no opinion at
    all, so nothing is ranked. Raises InputError for an id that stands twice, an empty tier, or tiers beside
    `cannot_judge`.
    """

    tiers: Sequence[Sequence[Id]] = ()
    unranked: Sequence[Id] = ()
    all_bad: bool = False
    cannot_judge: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        for name, value in (("tiers", self.tiers), ("unranked", self.unranked)):
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise InputError(f"a ranking's {name} are {value!r:.80}", allowed="a list")
        object.__setattr__(self, "tiers", tuple(_tier(tier) for tier in self.tiers))
        object.__setattr__(self, "unranked", _checked(self.unranked))
        twice = [one for one, count in Counter(self.ids).items() if count > 1]
        if twice:
            raise InputError(f"the candidate {twice[0]!r} stands twice in a ranking", allowed="each candidate once")
        if self.cannot_judge and self.tiers:
            raise InputError(
                "a ranking says that it cannot judge, and ranks",
                allowed="cannot_judge with every candidate unranked, or tiers",
            )

    @property
    def ids(self) -> tuple[Id, ...]:
        """All candidates: tier by tier, then the unranked."""
        return (*itertools.chain.from_iterable(self.tiers), *self.unranked)

    def preferences(self, ids: Sequence[Id] | None = None) -> list[list[float]]:
        """(k, k): 1 where the row's candidate is better than the column's, 0 where worse, 1/2 for a tie and itself.

        NaN off the diagonal where nobody can judge. ids: the order of rows and columns, by default `self.ids`.
        Raises InputError for an id that the ranking does not hold.
        """
        place = {one: number for number, tier in enumerate([*self.tiers, self.unranked]) for one in tier}
        order = self.ids if ids is None else ids
        if unknown := [one for one in order if one not in place]:
            raise InputError(f"the ranking holds no candidate {unknown[0]!r}", allowed=", ".join(map(str, self.ids)))
        tie = math.nan if self.cannot_judge else 0.5
        return [
            [0.5 if a == b else tie if place[a] == place[b] else float(place[a] < place[b]) for b in order]
            for a in order
        ]

    def pairs(self) -> Iterator[tuple[Id, Id]]:
        """Every (better, worse) that follows: no ties."""
        levels = [*self.tiers, self.unranked]
        for upper, lower in itertools.combinations(levels, 2):
            yield from itertools.product(upper, lower)

    @classmethod
    def by_score(cls, scores: Mapping[Id, float | None]) -> Ranking:
        """The ranking that scores mean: higher is better, equal ones share a tier, None and NaN are unranked."""
        known = {one: s for one, s in scores.items() if s is not None and not math.isnan(s)}
        levels = sorted(set(known.values()), reverse=True)
        tiers = [[one for one, s in known.items() if s == level] for level in levels]
        return cls(tiers=tiers, unranked=[one for one in scores if one not in known])

    def renamed(self, names: Mapping[Any, Sequence[Id]]) -> Ranking:
        """The same with each candidate under its other names; several of one candidate are a tie."""
        tiers = [[new for one in tier for new in names[one]] for tier in self.tiers]
        unranked = [new for one in self.unranked for new in names[one]]
        return Ranking(tiers, unranked, self.all_bad, self.cannot_judge, self.note)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, *, place: str | None = None) -> Ranking:
        """The ranking of which `data` is to_json. Raises DataError naming the place."""
        known = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) - known:
            raise DataError(f"no ranking: {data!r:.120}", place=place, allowed=f"an object with {', '.join(known)}")
        try:
            return cls(**data)
        except InputError as error:
            raise DataError(error.message, place=place, allowed=error.allowed) from None


def _tier(tier: Any) -> tuple[Id, ...]:
    if isinstance(tier, str) or not isinstance(tier, Sequence) or not tier:
        raise InputError(f"a tier of a ranking is {tier!r:.80}", allowed="a list of one or more ids")
    return _checked(tier)


def _checked(ids: Sequence[Any]) -> tuple[Id, ...]:
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise InputError(f"a candidate's id is {one!r:.80}", allowed="a text or a whole number")
    return tuple(ids)
