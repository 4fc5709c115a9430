"""The parts of the report of a run that trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.report.chart import Series, line_chart
from engine.report.data import Row, RunData, duration, is_number, mean, points
from engine.report.html import Html, as_text, clip, details, join, number, section, table, tag, tile

_TITLES = {
    "reward_mean": "Mean reward",
    "signal": "Share of groups with signal",
    "grad_norm": "Gradient norm",
    "loss": "Loss",
    "seconds": "Seconds a step",
    "tokens": "Completion tokens a step",
    "kl": "KL to the reference",
    "entropy": "Entropy",
    "clip_share": "Share of clipped tokens",
    "reward_std": "Reward standard deviation",
    "lr": "Learning rate",
}
_ALWAYS = ("reward_mean", "signal", "grad_norm", "loss", "seconds")
_EACH = 4
_WINDOW = 5


def rl_sections(run: RunData) -> list[Html]:
    """Headline, curves, evaluations, samples and checkpoints, as far as the run has them."""
    steps = [row for row in run.metrics if "eval" not in row]
    evaluations = [row for row in run.metrics if isinstance(row.get("eval"), dict)]
    return [
        tag("div", *_tiles(run, steps, evaluations), class_="tiles"),
        section("Curves", _curves(steps, evaluations)),
        section("Evaluations", _evaluations(evaluations)),
        section("Samples", _samples(run.samples)),
        section("Checkpoints", _checkpoints(run.checkpoints)),
    ]


def _tiles(run: RunData, steps: list[Row], evaluations: list[Row]) -> list[Html]:
    tiles = []
    for split, curve in _accuracy(evaluations).items():
        first, last = curve[0][1], curve[-1][1]
        mood = "good" if last > first else "bad" if last < first else ""
        label = f"{split} accuracy"
        tiles.append(
            tile(
                label,
                _from_to(first, last),
                f"step {curve[0][0]:.0f} to {curve[-1][0]:.0f}",
                mood=mood,
            )
        )
    rewards = [y for _, y in points(steps, "reward_mean")]
    if rewards:
        ends = mean(rewards[:_WINDOW]), mean(rewards[-_WINDOW:])
        tiles.append(tile("mean reward", _from_to(*ends), f"first and last {_WINDOW} steps"))
    seconds = [y for _, y in points(steps, "seconds")]
    tokens = [y for _, y in points(steps, "tokens")]
    each = f"{number(mean(seconds))} s a step" if seconds else ""
    tiles.append(tile("steps", number(len(steps)), each))
    tiles.append(
        tile(
            "time",
            duration(sum(seconds) if seconds else run.seconds),
            f"{number(sum(tokens))} tokens" if tokens else "",
        )
    )
    return tiles


def _from_to(first: object, last: object) -> str:
    return f"{number(first, 3)} \u2192 {number(last, 3)}"


def _accuracy(evaluations: list[Row], key: str = "accuracy") -> dict[str, list[tuple[float, float]]]:
    """split -> (step, value) curve."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in evaluations:
        for split, record in row["eval"].items():
            if isinstance(record, dict) and is_number(record.get(key)) and is_number(row.get("step")):
                curves.setdefault(str(split), []).append((float(row["step"]), float(record[key])))
    return curves


def _curves(steps: list[Row], evaluations: list[Row]) -> Html:
    """Accuracy and the vital curves first; constant and rarer ones behind a click."""
    first = [
        line_chart(
            [Series(split, curve) for split, curve in _accuracy(evaluations, key).items()],
            title=key.replace("_", " ").capitalize(),
        )
        for key in _quantities(evaluations)
    ]
    rest: list[Html] = []
    for key in [*_TITLES, *sorted(_numeric(steps) - {*_TITLES, "step"})]:
        curve = points(steps, key)
        chart = line_chart([Series(_TITLES.get(key, key), curve)], title=_TITLES.get(key, key))
        varies = len({y for _, y in curve}) > 1
        (first if key in _ALWAYS or (key in _TITLES and varies and key != "lr") else rest).append(chart)
    more = [chart for chart in rest if chart]
    return join(
        [
            tag("div", *first, class_="charts"),
            details(f"{len(more)} more curves", tag("div", *more, class_="charts")) if more else "",
        ]
    )


def _quantities(evaluations: list[Row]) -> list[str]:
    """What evaluations measured, each a chart with a line a split; the counts `n` and `failed` are none."""
    records = [record for row in evaluations for record in row["eval"].values() if isinstance(record, dict)]
    return [name for name in dict.fromkeys(key for record in records for key in record) if name not in ("n", "failed")]


def _numeric(rows: list[Row]) -> set[str]:
    return {key for row in rows for key, value in row.items() if is_number(value)}


def _evaluations(evaluations: list[Row]) -> Html:
    """One line an evaluation and split, one column a quantity."""
    records = [
        (row.get("step"), split, record)
        for row in evaluations
        for split, record in row["eval"].items()
        if isinstance(record, dict)
    ]
    names = list(dict.fromkeys(name for _, _, record in records for name in record))
    rows = [(number(step), split, *(number(record.get(name)) for name in names)) for step, split, record in records]
    if not rows:
        return Html("")
    return table(("step", "split", *names), rows, numeric=(0, *range(2, len(names) + 2)))


def _samples(samples: list[Row]) -> Html:
    """The first, the last, the best and the worst samples."""
    rated = [s for s in samples if is_number(s.get("reward"))]
    kinds: dict[str, Sequence[Row]] = {"First": samples[:_EACH], "Last": samples[-_EACH:]}
    if rated:
        # among equals the latest says most about the model as it is
        order = sorted(rated, key=lambda s: (s["reward"], s.get("step") if is_number(s.get("step")) else 0))
        lowest = [s for s in rated if s["reward"] == order[0]["reward"]]
        kinds["Best"] = order[::-1][:_EACH]
        kinds["Worst"] = lowest[-_EACH:][::-1] if len(lowest) >= _EACH else order[:_EACH]
    if not samples:
        return Html("")
    return tag(
        "div", *(tag("div", tag("h3", name), *map(_sample, rows)) for name, rows in kinds.items()), class_="halves"
    )


def _sample(sample: Row) -> Html:
    rest = {k: v for k, v in sample.items() if k not in ("step", "prompt", "completion", "reward")}
    facts = " \u00b7 ".join(f"{name} {clip(number(value), 200)}" for name, value in rest.items())
    completion = clip(_prompt_text(sample.get("completion", "")))
    summary = join(
        [
            f"step {number(sample.get('step'))} \u00b7 reward ",
            tag("b", number(sample.get("reward"))),
            tag("span", " \u00b7 ", clip(completion.strip().partition("\n")[0], 60), class_="muted"),
        ]
    )
    return details(
        summary,
        tag("div", "prompt", class_="note"),
        tag("div", clip(_prompt_text(sample.get("prompt", ""))), class_="text code"),
        tag("div", "completion", class_="note"),
        tag("div", completion, class_="text code"),
        tag("div", facts, class_="note"),
    )


def _prompt_text(prompt: Any) -> str:
    """A prompt as text: a string, or chat messages with their roles."""
    if isinstance(prompt, list) and prompt and all(isinstance(m, dict) and "content" in m for m in prompt):
        return "\n\n".join(f"{m.get('role', '')}: {as_text(m['content'])}" for m in prompt)
    return as_text(prompt)


def _checkpoints(names: list[str]) -> Html:
    return tag("p", ", ".join(names)) if names else Html("")
