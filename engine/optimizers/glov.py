"""GLOV (arXiv 2410.06154): the best and the worst values are told with their scores, and the model is steered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from engine.errors import BudgetSpent, InputError
from engine.optimizers._answers import model_of
from engine.optimizers._compared import whole_scores
from engine.optimizers._turns import Conversation, SamplingOptions, Turn, conversation, fresh, rows, spoken, wanted
from engine.optimizers.base import Candidate, Evaluation, Optimizer, Options, State
from engine.optimizers.opro import Ranked, Scale, ranking, recombined, scored
from engine.params import Param

Guidance = Literal["embedding", "text", "off"]

STEERED, UNSTEERED, CONTRAST = "steered", "unsteered", "textual contrast"
"""`Candidate.reason` of a new value: how the model was guided when it wrote it."""


class GlovOptions(SamplingOptions):
    candidates: int = Field(default=10, ge=1, description="candidates asked for in a step")
    k: int = Field(default=5, ge=1, description="best values shown, and as many of the worst; the paper's 3 for a VLM")
    explore: int = Field(default=10, ge=0, description="candidates proposed before scores are told")
    crossover: float = Field(default=0.25, ge=0, le=1, description="share of candidates recombined from known values")
    parents: int = Field(default=5, ge=1, description="best values of each parameter that are recombined")
    guidance: Literal["auto", "embedding", "text", "off"] = Field(
        default="auto", description="how the model is guided; auto: embedding where it can be steered"
    )
    begin: Literal["improvement", "scores"] = Field(
        default="improvement",
        description="guided from the first score above the start's on, or as soon as scores are told",
    )
    pool: Literal["means", "single"] = Field(
        default="means", description="steered from the worst values to the best, or from the second best to the best"
    )
    pooled: int = Field(default=8, ge=1, description="best and worst values in each mean")
    depth: float = Field(default=0.4, ge=0, lt=1, description="of the steered layer; the paper's is 0.55")
    alpha: float = Field(default=0.2, ge=0, le=10, description="length of the offset, in residual norms")
    mode: Literal["auto", "exact", "sticky"] = Field(
        default="auto",
        description="exact: only the last position is steered; sticky: it stays so; auto: exact where the model can",
    )
    gate: bool = Field(default=True, description="half of a step is not steered, and tells whether steering pays")


class Glov(Optimizer):
    """Asks for values that score higher than the k best and the k worst known ones, and steers the model while it does.

    From the first evaluation that scores higher than the start (`begin`), each text is sampled with an offset in the
    residual stream that points from the hidden states of bad values to those of good ones (engine.llm.steering).
    With `gate`, half of a step's new values are written without it; when the mean over the steps of (steered
    half's mean score - unsteered half's) falls below 0, steering ends for the run. That is read from the
    evaluations' reasons, so a resumed run decides the same. A model that cannot be steered is shown the
    best values as good ones and the worst as bad ones instead: the reason then is "textual contrast".

    k 5, 10 candidates, temperature 1, top-p 0.9 and 75 tokens are the paper's. Departures:
    1. the offset goes from the mean of the worst values to that of the best, not from the second best to the best
       (`pool: single`), whose effect could not be told from that of a random offset (SmolLM2-135M);
    2. its layer is at 0.4 of the depth and its length is relative to the residual norm; the authors' 0.55 is `depth`,
       and their alpha has no counterpart: theirs decays with each token, except for alpha 1;
    3. the gate;
    4. as in `opro`: parameters are asked for one by one, values are told as turns of a conversation, a quarter of
       the candidates recombines known values of several parameters, and the first ones are asked for without scores.
    """

    Config: ClassVar[type[Options]] = GlovOptions

    def calls(self, params: int) -> int:
        return params * (2 if self.config.gate else 1)

    def answer_tokens(self, params: int) -> int:
        return params * self.candidates * int(self.config.max_tokens)  # the two calls share the candidates

    def propose(self, state: State, n: int) -> list[Candidate]:
        ranked = {param.name: ranking(state.history, param.name) for param in state.params}
        exploring = len(state.history) <= self.config.explore
        crossed = [] if exploring else recombined(state, ranked, round(self.config.crossover * n), self.config.parents)
        guidance = self._guidance(state, ranked)
        found = list(crossed)
        for reason, count in self._split("off" if exploring else guidance, n - len(crossed)):
            try:
                found += self._written(state, ranked, exploring, reason, count)
            except BudgetSpent:
                if not found:
                    raise
                break
        return found

    def _guidance(self, state: State, ranked: Mapping[str, Ranked]) -> Guidance:
        """How this step's values are guided. Raises InputError where embeddings are asked for and out of reach."""
        asked, llm = self.config.guidance, model_of(state)
        if asked == "embedding" and not llm.can_steer:
            raise InputError(
                f"guidance is 'embedding', and {llm.name} cannot be steered",
                place="options of Glov",
                allowed="auto, text, off with this model",
                next_step="use a model in this process, local:NAME, or a LensLLM",
            )
        if asked in ("auto", "embedding") and llm.can_steer and self.config.mode not in ("auto", *llm.steering_modes):
            raise InputError(
                f"mode is '{self.config.mode}', which {llm.name} does not offer",
                place="options of Glov",
                allowed=", ".join(("auto", *llm.steering_modes)),
            )
        if asked == "off" or not self._begun(state.history):
            return "off"
        if asked == "text" or not llm.can_steer:
            return "text"
        pays = not self.config.gate or steering_gain(state.history) >= 0
        return "embedding" if pays and any(self._steering(state, p, ranked[p.name]) for p in state.params) else "off"

    def _begun(self, history: Sequence[Evaluation]) -> bool:
        return len(history) > 1 if self.config.begin == "scores" else has_improved(history)

    def _split(self, guidance: Guidance, n: int) -> list[tuple[str, int]]:
        """How many new values are written in which way."""
        if guidance != "embedding":
            parts = [(CONTRAST if guidance == "text" else UNSTEERED, n)]
        else:
            plain = n // 2 if self.config.gate else 0
            parts = [(UNSTEERED, plain), (STEERED, n - plain)]
        return [(reason, count) for reason, count in parts if count]

    def _written(
        self, state: State, ranked: Mapping[str, Ranked], exploring: bool, reason: str, n: int
    ) -> list[Candidate]:
        objective = self.config.objective or state.objective

        def asked(param: Param) -> Conversation:
            known = ranked[param.name]
            if exploring or not known:
                return fresh(param, objective, state.initial[param.name])
            worst, best = extremes(known, self.config.k)
            if reason == CONTRAST:
                return contrasted(param, objective, worst, best)
            return scored(param, objective, [*worst, *best])

        def own(param: Param) -> dict[str, Any]:
            steering = self._steering(state, param, ranked[param.name]) if reason == STEERED else None
            return {"steering": steering} if steering else {}

        return rows(state, asked, n, reason, self.config.sampling(), own)

    def _steering(self, state: State, param: Param, known: Ranked) -> dict[str, Any] | None:
        """The steering of a parameter's text; None for another kind, and where too little is known."""
        if param.kind not in ("text", "code") or len(known) < 2:
            return None
        worst, best = extremes(known, self.config.pooled)
        if self.config.pool == "single":
            worst, best = known[-2:-1], known[-1:]
        return {
            "positive": [spoken(param, value) for value, _ in best],
            "negative": [spoken(param, value) for value, _ in worst],
            "depth": self.config.depth,
            "alpha": self.config.alpha,
            "mode": self._mode(state),
        }

    def _mode(self, state: State) -> str:
        if self.config.mode != "auto":
            return str(self.config.mode)
        modes = model_of(state).steering_modes
        return "exact" if "exact" in modes else modes[0]


def has_improved(history: Sequence[Evaluation]) -> bool:
    """Whether an evaluation without a failed run scores higher than the first one, the start's."""
    start, *rest = zip(history, whole_scores(history), strict=True)
    scores = [score for e, score in rest if score is not None and not any(e.failed)]
    return start[1] is not None and any(score > start[1] for score in scores)


def steering_gain(history: Sequence[Evaluation]) -> float:
    """Mean over the steps that wrote both ways of (steered mean score - unsteered); 0 before there is one."""
    steps: dict[int, dict[str, list[float]]] = {}
    for evaluation, score in zip(history, whole_scores(history), strict=True):
        if score is not None and evaluation.candidate.reason in (STEERED, UNSTEERED):
            steps.setdefault(evaluation.step, {}).setdefault(evaluation.candidate.reason, []).append(score)
    gains = [fmean(halves[STEERED]) - fmean(halves[UNSTEERED]) for halves in steps.values() if len(halves) == 2]
    return fmean(gains) if gains else 0.0


def extremes(known: Ranked, k: int) -> tuple[Ranked, Ranked]:
    """The k worst and the k best values, both worst first, none in both; of an odd few the best are one more."""
    worst = known[: min(k, len(known) // 2)]
    return worst, known[max(len(worst), len(known) - k) :]


def contrasted(param: Param, objective: str, worst: Ranked, best: Ranked) -> Conversation:
    """Bad values are told as bad ones and good values as good ones, by their scores, and a better one is asked for."""
    tell = Scale([score for _, score in (*worst, *best)])

    def turn(kind: str, value: Any, score: float) -> Turn:
        return f"Write {wanted(param)} that works {kind}, score {tell(score)}.", value

    turns = [turn("badly", *pair) for pair in worst] + [turn("well", *pair) for pair in best]
    ask = f"Write {wanted(param)} that works well, score {tell.next()}."
    return conversation(param, objective, "Higher scores are better.", turns, ask)


OPTIMIZER = Glov
