"""Scaffolded GRPO: a problem that no completion solves is asked again with the smallest hint that helps.

Paper: Scaf-GRPO, 2510.19807. A group whose rewards are all 0 has no advantage, so problems beyond the model
stay invisible to GRPO: the learning cliff. Here such a problem q climbs a ladder of hints

    knowledge_1 .. knowledge_n, planning_1 .. planning_n, solution_1 .. solution_n      h_{t,l} = parts_t[:l]

and one completion o' is sampled from pi(. | q + h) at each level. That of the lowest level with a reward > 0
takes the place of one failed completion, together with the prompt that it was sampled under; then GRPO as always:

    G' = G - {o_j} + {o'},   A_i = (r_i - mean r) / (std r + eps)   over G'
    rho'_t = pi(o'_t | q + h, o'_<t) / pi_old(o'_t | q + h, o'_<t)      so 1 at the first update

With n = 8 and one guided success A is +2.475 for it and -0.354 for the others (eps -> 0, unbiased std). Where no
level helps, the group stays as it was. Evaluation never sees a hint.

What it means: the model is shown the way to what it can do with a nudge, and stays on-policy. What it assumes:
what is learnt under a hint carries over to the bare problem. When it fails: where it does not carry over, or
where hints do not help, or where failing is due to something else than difficulty, an unreadable answer say;
watch `hints/weaned` and `reward_unhinted`.

Each prompt brings its parts as columns, lists of texts: `knowledge_components_parts`, `planning_skeleton_parts`,
`solution_breakdown_parts` (2510.19807's own names); a tier without parts is passed over.

Departures from the paper, and from the authors' program where that differs:
1. All three tiers are climbed, and named in metrics and `group.meta`; the program leaves the planning tier out
   (`tiers: [knowledge, solution]`).
2. `zero_visits` k: a problem is hard after k visits in a row without success, exempt ones included (paper: 1).
3. `search: sequential` goes level by level and stops at the first success: fewer completions, more rounds.
4. `replace` r > 1 samples r completions a level and takes all successes of the lowest level that has one. (The
   program's replace_num = 2 trains the one success a second time under the bare prompt; that is off-policy.)
5. The exempt period is counted in updates (paper: 15 % of training; program: 50 batches, of four updates each).
6. A hint below the solution tier that holds the final answer is refused (`leaks`).
7. A success is any reward above 0 (program: 1), and failure none above 0 (program: all equal to 0).
8. Loss and advantages are rl.methods.grpo's, with its own departures.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from engine.errors import DataError
from rl.methods.base import Tools
from rl.methods.grpo import Grpo, GrpoConfig
from rl.sources import ListSource
from rl.types import Group, Prompt

Tier = Literal["knowledge", "planning", "solution"]
Outcome = TypeVar("Outcome", bound=tuple[Any, ...])
Tried = tuple[Tier, int, float | None, Group]
"""Tier and level of a hint, the best reward under it, and the completions."""

COLUMNS: dict[Tier, str] = {
    "knowledge": "knowledge_components_parts",
    "planning": "planning_skeleton_parts",
    "solution": "solution_breakdown_parts",
}
"""Tier -> the column with its parts, from the most abstract to the most concrete."""


class ScafGrpoConfig(GrpoConfig):
    """Settings beside GRPO's. The defaults are those of the authors' program.

    `exempt_steps`: optimizer updates without hints at the beginning. `tiers`: those that are climbed, in this order.
    `template`: how a hint is put into a text, or into the last user message of a chat; {prompt}, {hint} and, if
    wanted, {tier}. `answer`: the column with the final answer. `leaks`: what to do with a knowledge or planning
    part that holds it: `refuse` the data, `drop` the part and those after it, or `allow` it.
    """

    kind: Literal["scaf_grpo"] = "scaf_grpo"  # type: ignore[assignment]
    exempt_steps: int = Field(default=50, ge=0)
    zero_visits: int = Field(default=1, ge=1)
    tiers: tuple[Tier, ...] = Field(default=("knowledge", "planning", "solution"), min_length=1)
    search: Literal["parallel", "sequential"] = "parallel"
    replace: int = Field(default=1, ge=1)
    template: str = "{prompt}\n\nHints ({tier}):\n{hint}"
    answer: str = "answer"
    leaks: Literal["refuse", "drop", "allow"] = "refuse"

    @field_validator("template")
    @classmethod
    def _has_places(cls, template: str) -> str:
        marks = {name: f"\0{name}\0" for name in ("prompt", "hint", "tier")}
        try:
            filled = template.format(**marks)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"only {{prompt}}, {{hint}} and {{tier}} may stand in braces: {error}") from None
        if marks["prompt"] not in filled or marks["hint"] not in filled:
            raise ValueError("it must have the places {prompt} and {hint}")
        return template


@dataclass(frozen=True)
class Hint:
    """The first `level` parts of a tier."""

    tier: Tier
    level: int
    text: str


class ScafGrpo(Grpo):
    """Scaf-GRPO. See the module for formulas and departures.

    `zeros`: problem -> its latest visits in a row without success. `needed`: problem -> "tier/level", the hint
    that it was last solved with, until it is solved without.
    """

    Config = ScafGrpoConfig
    paper = "2510.19807"
    title = "Scaffolded group relative policy optimization"
    config: ScafGrpoConfig

    def __init__(self, config: ScafGrpoConfig, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.zeros: dict[str, int] = {}
        self.needed: dict[str, str] = {}
        self._is_checked = False

    def prepare(self, groups: list[Group], tools: Tools) -> list[Group]:
        """The groups, in those that are hard a failed completion replaced by a guided success.

        Raises DataError for hints that are none, or that give the answer away.
        """
        if not self._is_checked:
            self._check(tools.source.train if isinstance(tools.source, ListSource) else [g.prompt for g in groups])
        is_exempt = tools.step < self.config.exempt_steps
        known = [reward for group in groups for reward in group.rewards if reward is not None]
        self.metrics = {
            "hints/exempt": float(is_exempt),
            "hints/zero_groups": float(sum(map(is_failed, groups))),
            "hints/weaned": float(self._visit(groups)),
        } | ({"reward_unhinted": sum(known) / len(known)} if known else {})
        hard = {} if is_exempt else {i: group for i, group in enumerate(groups) if self._is_hard(group)}
        found, sampled = self._search(hard, tools)
        self.needed |= {hard[place].prompt.id: f"{tier}/{level}" for place, (tier, level, *_) in found.items()}
        self.metrics |= self._counts(len(hard), Counter(tier for tier, *_ in found.values()), sampled)
        return [guided(group, found[i]) if i in found else group for i, group in enumerate(groups)]

    def state_dict(self) -> dict[str, Any]:
        """The history of every problem."""
        return {"zeros": self.zeros, "needed": self.needed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a history."""
        self.zeros, self.needed = dict(state["zeros"]), dict(state["needed"])

    def _visit(self, groups: Sequence[Group]) -> int:
        """Note how the problems went; how many are solved without the hint that they last needed."""
        weaned = 0
        for group in groups:
            name = group.prompt.id
            if is_failed(group):
                self.zeros[name] = self.zeros.get(name, 0) + 1
            elif any(map(is_success, group.rewards)):
                self.zeros.pop(name, None)
                weaned += self.needed.pop(name, None) is not None
        return weaned

    def _is_hard(self, group: Group) -> bool:
        return is_failed(group) and self.zeros[group.prompt.id] >= self.config.zero_visits

    def _search(self, hard: Mapping[int, Group], tools: Tools) -> tuple[dict[int, Tried], Counter[Tier]]:
        """Place -> the minimal hint and what was sampled under it; and the completions sampled, by tier."""
        ladders = {place: hints_of(group.prompt, self.config) for place, group in hard.items()}
        height = max(map(len, ladders.values()), default=0)
        is_sequential = self.config.search == "sequential"
        found: dict[int, Tried] = {}
        sampled: Counter[Tier] = Counter()
        for levels in [slice(i, i + 1) for i in range(height)] if is_sequential else [slice(height)]:
            asked = [(p, hint) for p, ladder in ladders.items() if p not in found for hint in ladder[levels]]
            if not asked:
                break
            prompts = [hinted(hard[place].prompt, hint, self.config.template) for place, hint in asked]
            tried: dict[int, list[Tried]] = {place: [] for place, _ in asked}
            for (place, hint), group in zip(asked, tools.sample(prompts, self.config.replace), strict=True):
                tried[place].append((hint.tier, hint.level, best(group.rewards), group))
                sampled[hint.tier] += len(group.rollouts)
            found |= {place: first for place, outcomes in tried.items() if (first := minimal_hint(outcomes))}
        return found, sampled

    def _counts(self, hard: int, rescued: Counter[Tier], sampled: Counter[Tier]) -> dict[str, float]:
        """What the search did, in all and by tier."""
        row = {"hints/hard": hard, "hints/rescued": rescued.total(), "hints/sampled": sampled.total()}
        for tier in self.config.tiers:
            row |= {f"hints/rescued/{tier}": rescued[tier], f"hints/sampled/{tier}": sampled[tier]}
        return {name: float(count) for name, count in row.items()}

    def _check(self, prompts: Sequence[Prompt]) -> None:
        """Read every hint that is there before the first update. Raises DataError."""
        if not any([hints_of(prompt, self.config) for prompt in prompts]):  # a list: each is to be read
            raise DataError(
                "no prompt of the source has a hint",
                allowed=f"columns of texts: {', '.join(COLUMNS[tier] for tier in self.config.tiers)}",
                next_step="add them to the data, and keep them in source.columns",
            )
        self._is_checked = True


def minimal_hint(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The first of (tier, level, reward) that succeeds: reward > 0; None if none does. outcomes: lowest first."""
    return next((outcome for outcome in outcomes if is_success(outcome[2])), None)


def is_success(reward: float | None) -> bool:
    return reward is not None and reward > 0


def is_failed(group: Group) -> bool:
    """Whether some completion has a reward and none succeeded."""
    return any(reward is not None for reward in group.rewards) and not any(map(is_success, group.rewards))


def best(rewards: Iterable[float | None]) -> float | None:
    """The highest reward that is known."""
    return max((reward for reward in rewards if reward is not None), default=None)


def hints_of(prompt: Prompt, config: ScafGrpoConfig) -> list[Hint]:
    """The ladder of a problem, lowest first. Raises DataError for parts that are none or that tell the answer."""
    ladder = []
    for tier in config.tiers:
        parts = parts_of(prompt, COLUMNS[tier])
        if tier != "solution" and config.leaks != "allow" and parts:
            parts = _without_leak(parts, prompt, tier, config)
        ladder += [Hint(tier, level, "\n".join(parts[:level])) for level in range(1, len(parts) + 1)]
    return ladder


def parts_of(prompt: Prompt, column: str) -> list[str]:
    """The column's texts that are not blank; none where there is no such column. Raises DataError."""
    value = prompt.columns.get(column)
    parts = [] if value is None else value
    if isinstance(parts, str) or not isinstance(parts, Sequence) or not all(isinstance(p, str) for p in parts):
        raise DataError(f"{column} is {value!r:.80}", place=prompt.id, allowed="a list of texts, empty, or null")
    return [part.strip() for part in parts if part.strip()]


def hinted(prompt: Prompt, hint: Hint, template: str) -> Prompt:
    """The problem with the hint in its text, or in its last user message. Raises DataError where there is neither."""

    def filled(text: str) -> str:
        return template.format(prompt=text, hint=hint.text, tier=hint.tier)

    if isinstance(prompt.prompt, str):
        return dataclasses.replace(prompt, prompt=filled(prompt.prompt))
    messages = list(prompt.prompt)
    last = next((i for i in reversed(range(len(messages))) if messages[i]["role"] == "user"), None)
    if last is None or not isinstance(messages[last]["content"], str):
        raise DataError("no text to put a hint into", place=prompt.id, allowed="a user's message that is text")
    messages[last] = messages[last] | {"content": filled(messages[last]["content"])}
    return dataclasses.replace(prompt, prompt=messages)


def guided(group: Group, found: Tried) -> Group:
    """The group with failed completions replaced by the successes under a hint, and their prompt.

    At least one failure stays, since a group of equal rewards teaches nothing. `meta["hint"]` tells what was done.
    """
    tier, level, _, tried = found
    failed = [i for i, reward in enumerate(group.rewards) if reward is not None][1:]
    wins = [i for i, reward in enumerate(tried.rewards) if is_success(reward)]
    pairs = list(zip(failed, wins, strict=False))

    def mixed(own: Sequence[Any], others: Sequence[Any]) -> list[Any]:
        chosen = dict(pairs)
        return [others[chosen[i]] if i in chosen else value for i, value in enumerate(own)]

    rollouts = [dataclasses.replace(rollout, prompt_ids=tried.prompt_ids) for rollout in tried.rollouts]
    return dataclasses.replace(
        group,
        rollouts=mixed(group.rollouts, rollouts),
        rewards=mixed(group.rewards, tried.rewards),
        reward_parts={name: mixed(values, tried.reward_parts[name]) for name, values in group.reward_parts.items()},
        answers=mixed(group.answers, tried.answers),
        meta=group.meta | {"hint": {"tier": tier, "level": level, "completions": [i for i, _ in pairs]}},
    )


def _without_leak(parts: list[str], prompt: Prompt, tier: str, config: ScafGrpoConfig) -> list[str]:
    """The parts before the first that holds the final answer as a word or number of its own. Raises DataError."""
    if config.answer not in prompt.columns:
        raise DataError(
            f"there is no column '{config.answer}', so nobody can tell whether a hint gives the answer away",
            place=prompt.id,
            allowed=f"the columns there: {', '.join(prompt.columns)}",
            next_step="name the column as method.answer, or set method.leaks=allow",
        )
    answer = str(prompt.columns[config.answer]).strip()
    word = re.compile(rf"(?<!\w)(?<!\d[.,]){re.escape(answer)}(?!\w)(?![.,]\d)")
    leak = next((i for i, part in enumerate(parts) if answer and word.search(part)), None)
    if leak is not None and config.leaks == "refuse":
        raise DataError(
            f"part {leak + 1} of {COLUMNS[tier]} holds the final answer {answer!r}: {parts[leak]!r:.120}",  # type: ignore[index]
            place=prompt.id,
            allowed="the answer in the solution tier only",
            next_step="correct the row, or set method.leaks to drop (that part and those after it) or allow",
        )
    return parts[:leak]


METHOD = ScafGrpo
