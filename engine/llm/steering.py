"""What to steer a model by: texts whose hidden states it is moved towards, and texts it is moved away from.

A steering travels as the sampling argument `steering` of `LLM.complete`, as plain JSON, so that it is part of the key
of a recorded call. Only a model whose `can_steer` is true takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from engine.errors import InputError, did_you_mean

Mode = Literal["exact", "sticky"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class Steering:
    """An offset of the residual stream (GLOV, arXiv 2410.06154).

    d = mean over `positive` of h - mean over `negative` of h, where h is a text's mean over its tokens, the first one
    left out, of the output of decoder layer int(depth * layers); offset = alpha * r * d / |d|, where r is the mean norm
    of those token states. It is added to that layer's output at the last position of a forward pass.

    depth: 0.4 by default, the paper's is layer 17 of 32 (0.55). alpha: of the residual norm; 0 steers nothing. A
    negative one steers the other way.
    mode: "exact", as if no state were cached: when a token is chosen, only the position that it is read from is
    steered; costs two forwarded tokens a token. "sticky", as with a cache: a position stays steered for all later ones.

    Departures from the paper: the first token is left out, because its norm is about a hundred times the others'
    and a mean over it measures the text's length; alpha is relative to the residual norm; any number of texts.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    depth: float = 0.4
    alpha: float = 0.2
    mode: Mode = "exact"

    def __post_init__(self) -> None:
        tests = (
            ("positive", bool(self.positive) and all(self.positive), "at least one text, none empty"),
            ("negative", bool(self.negative) and all(self.negative), "at least one text, none empty"),
            ("depth", 0 <= self.depth < 1, "0 <= depth < 1"),
            ("alpha", abs(self.alpha) <= 10, "-10 to 10, as a share of the residual norm"),
            ("mode", self.mode in MODES, ", ".join(MODES)),
        )
        for name, is_good, allowed in tests:
            if not is_good:
                raise InputError(f"steering {name} is {getattr(self, name)!r:.80}", allowed=allowed)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "positive": list(self.positive), "negative": list(self.negative)}


def read_steering(value: Any) -> Steering | None:
    """The Steering of a sampling argument; None of None. Raises InputError."""
    if value is None or isinstance(value, Steering):
        return value
    known = list(Steering.__dataclass_fields__)
    if not isinstance(value, Mapping):
        raise InputError(f"steering is {value!r:.60}", allowed="a mapping of " + ", ".join(known))
    for name in value:
        if name not in known:
            raise InputError(f"no option '{name}' of steering.{did_you_mean(name, known)}", allowed=", ".join(known))
    try:
        return Steering(**{**value, "positive": _texts(value, "positive"), "negative": _texts(value, "negative")})
    except TypeError as error:
        raise InputError(f"steering is {value!r:.120}: {error}") from None


def refuse_steering(sampling: Mapping[str, Any], name: str) -> None:
    """Raises InputError where a model that cannot be steered is asked to be."""
    if sampling.get("steering") is not None:
        raise InputError(
            "this model cannot be steered: its hidden states are out of reach",
            place=name,
            allowed="steering of a model whose can_steer is true, such as local:NAME",
            next_step="run the model in this process, or show it good and bad examples in the prompt",
        )


def _texts(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    texts = value.get(name, ())
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(t, str) for t in texts):
        raise InputError(f"steering {name} is {texts!r:.80}", allowed="a list of texts")
    return tuple(texts)
